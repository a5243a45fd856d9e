"""Many images as one store: every graph against the recipe's own, and whatever may happen to a store on the disk."""

import contextlib
import importlib.util
import json
import linecache
import os
import pickle
import signal
import subprocess
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("skimage", reason="scikit-image is not installed")

from gnnlib import GraphStore, adjacency
from gnnlib._platform.dgl import dgl
from gnnlib._utils.documents import seal
from gnnlib.data import archive
from gnnlib.graph import Adjacency
from gnnlib.images import (
    Nearest,
    Touching,
    Within,
    about_store,
    image_folder,
    images_to_store,
    label_maps,
    paint,
    recipes,
    scale,
    segment,
    superpixel_graph,
)
from gnnlib.images.recipes import Recipe
from gnnlib.images.segments import SLIC

IMAGES = np.random.default_rng(0).random((7, 12, 10)) ** 4
FEW = Recipe(SLIC(9, compactness=0.25), Nearest(3))
LABELS = torch.arange(7) * 3


@pytest.fixture(autouse=True)
def _small_parts(monkeypatch):
    monkeypatch.setattr(scale, "PART", 360)  # three images of IMAGES


def assert_equal(store, graphs):
    """The batch of all, in its edges, frames and neighbours, bit for bit."""
    batch, expected = store.batch(range(len(store))), dgl.batch(graphs)
    assert (batch.idtype, batch.canonical_etypes) == (expected.idtype, expected.canonical_etypes)
    ends = expected.edges(order="eid")
    pairs = [*zip(batch.edges(order="eid"), ends)]
    for frame, reference in ((batch.ndata, expected.ndata), (batch.edata, expected.edata)):
        assert list(frame) == list(reference)
        pairs += [(frame[name], reference[name]) for name in reference]
    pairs += [(batch.batch_num_nodes(), expected.batch_num_nodes())]
    a, b = adjacency(batch), Adjacency.from_edges(*ends, *[expected.num_nodes()] * 2)
    pairs += zip((a.src, a.dst, *a.csc, *a.csr), (b.src, b.dst, *b.csc, *b.csr))
    for value, reference in pairs:
        assert value.dtype == reference.dtype
        assert torch.equal(value, reference)


# ---------------------------------------------------------------- the same graphs


@pytest.mark.parametrize("name", ["knyazev", "dwivedi", "dwivedi_cifar", "monti", "avelar"])
def test_graphs_equal_those_of_the_recipe(name, tmp_path):
    recipe = getattr(recipes, name)
    store = images_to_store(IMAGES, recipe, tmp_path, LABELS, workers=0)
    assert_equal(store, [recipe(image) for image in IMAGES])
    assert torch.equal(store.labels, LABELS)
    assert len(store) == 7
    assert_equal(store.select([5, 2]), [recipe(IMAGES[i]) for i in (5, 2)])


@pytest.mark.parametrize("edges", [Nearest(8), Touching(), Within(4.0), Nearest(3, sigma=2.0)])
def test_any_rule_of_edges_and_superpixel_graph_itself(edges, tmp_path):
    recipe = Recipe(partial(segment, num_segments=20), edges, ("std", "box"), self_loops=True)
    store = images_to_store(IMAGES, recipe, tmp_path, workers=0)
    options = dict(edges=edges, features=("std", "box"), self_loops=True)
    assert_equal(store, [superpixel_graph(image, 20, **options) for image in IMAGES])
    assert store.labels is None


def test_images_of_any_kind_and_size(tmp_path):
    image = pytest.importorskip("PIL.Image").fromarray((255 * IMAGES[0]).astype(np.uint8))
    images = [image, image.convert("1"), torch.rand(3, 5).bfloat16(), IMAGES[1].astype(np.float32), np.zeros((1, 1))]
    assert_equal(images_to_store(images, recipes.avelar, tmp_path, workers=0), [*map(recipes.avelar, images)])


def texture(regions):
    """A feature of the caller's."""
    return regions.mean(regions.values**2)


def halves(values):
    """A segmentation of the caller's."""
    return (np.arange(values.shape[0])[:, None] * 2 // len(values)) + np.zeros(values.shape[:2], int)


@pytest.mark.process
def test_functions_of_the_caller_are_parallel_and_resumed(tmp_path, monkeypatch, preloaded):
    recipe = Recipe(halves, Nearest(1), ("mean", texture, partial(texture)))
    monkeypatch.setattr(scale, "module_as", lambda *_: contextlib.nullcontext())  # pytest's own __main__ is importable
    store = images_to_store(IMAGES, recipe, tmp_path / "1", workers=1)
    assert_equal(store, [*map(recipe, IMAGES)])
    monkeypatch.setattr(scale, "_convert_all", lambda *_: 1 / 0)
    assert_equal(images_to_store(IMAGES, recipe, tmp_path / "1", workers=1), [*map(recipe, IMAGES)])


def test_a_changed_function_is_another_recipe(tmp_path):
    """By its name or its source; comments do not matter."""

    def write(body):
        path = tmp_path / "own_features.py"
        path.write_text(f"def own(regions):\n    {body}\n")
        spec = importlib.util.spec_from_file_location("own_features", path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        linecache.checkcache()
        return Recipe(halves, Nearest(1), (module.own,))

    images_to_store(IMAGES, write("return regions.area"), tmp_path / "store", workers=0)
    images_to_store(IMAGES, write("return regions.area  # of course"), tmp_path / "store", workers=0)
    with pytest.raises(ValueError, match=r"expected the store of functions .*own_features.own"):
        images_to_store(IMAGES, write("return 2 * regions.area"), tmp_path / "store", workers=0)


def test_segmentations_and_rules_that_cannot_be_called():
    with pytest.raises(
        TypeError, match=r"Recipe: expected edges to be a function or a rule, got the class Touching; w"
    ):
        Recipe(SLIC(4), Touching)
    with pytest.raises(TypeError, match=r"Recipe: expected segment to be a function or a rule, got 75$"):
        Recipe(75, Touching())


def test_functions_that_cannot_be_imported(tmp_path):
    def inner(regions):
        return regions.area

    for function, name in (
        (lambda regions: regions.area, "a lambda"),
        (inner, "test_functions.*inner, defined in a func"),
    ):
        for recipe in (
            lambda f: Recipe(SLIC(4), Nearest(1), (f,)),
            lambda f: Recipe(SLIC(4), f),
            lambda f: Recipe(partial(f, 3), Nearest(1)),
        ):
            with pytest.raises(TypeError, match=f"Recipe: expected functions that can be imported, .* got {name}"):
                recipe(function)
    script = type(inner)(inner.__code__, {}, "inner")
    script.__module__, script.__qualname__ = "__main__", "inner"
    with pytest.raises(TypeError, match=r"recipe: expected functions that a worker process can import, .*workers=0"):
        images_to_store(IMAGES, Recipe(SLIC(4), Nearest(1), (script,)), tmp_path, workers=1)
    assert images_to_store(IMAGES, Recipe(SLIC(4), Nearest(1), (script,)), tmp_path, workers=0)[0].num_nodes() > 1


def test_a_folder_of_pictures(tmp_path):
    """The same graphs from files and from their arrays, grey and in colour; labels are those of the folders."""
    pil = pytest.importorskip("PIL.Image")
    levels = (255 * IMAGES).astype(np.uint8)
    for i, image in enumerate(levels):
        path = tmp_path / "photos" / "ab"[i % 2] / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pil.fromarray(image).convert("RGB" if i == 3 else "L").save(path)
    photos = image_folder(tmp_path / "photos", channels=1)
    store = images_to_store(photos, FEW, tmp_path / "store", workers=0)
    named = images_to_store(str(tmp_path / "photos"), replace(FEW, channels=1), tmp_path / "named", workers=0)
    assert_equal(named, [*store])
    assert torch.equal(named.labels, store.labels)
    order = [0, 2, 4, 6, 1, 3, 5]
    assert_equal(store, [FEW(levels[i]) for i in order])
    assert store.labels.tolist() == [0, 0, 0, 0, 1, 1, 1]
    again = images_to_store([levels[i] for i in order], FEW, tmp_path / "store", [0] * 4 + [1] * 3, workers=0)
    assert len(again) == 7, "the same pixels, the same store"
    paths = images_to_store(photos.paths, replace(FEW, channels=1), tmp_path / "paths", workers=0)
    assert_equal(paths, [FEW(levels[i]) for i in order])
    colour = images_to_store(photos.paths, replace(FEW, channels=3), tmp_path / "colour", workers=0)
    assert about_store(tmp_path / "colour")["channels"] == 3
    assert_equal(colour, [FEW(np.stack([levels[i]] * 3, -1)) for i in order])
    with pytest.raises(ValueError, match="image 5: expected columns as of image 0"):
        images_to_store(photos.paths, FEW, tmp_path / "mixed", workers=0)


def test_segments_beside_the_number_requested(tmp_path):
    sizes = [FEW(image).num_nodes() for image in IMAGES]
    images_to_store(IMAGES, FEW, tmp_path, workers=0)
    about = about_store(tmp_path)
    assert about["segments"] == {"requested": 9, "mean": round(np.mean(sizes), 2), "min": min(sizes), "max": max(sizes)}
    assert about["graphs"] == 7
    partly = Recipe(partial(segment, num_segments=20), Touching())
    images_to_store(IMAGES, partly, tmp_path / "partial", workers=0)
    assert about_store(tmp_path / "partial")["segments"]["requested"] == 20
    images_to_store(IMAGES, Recipe(halves, Touching()), tmp_path / "own", workers=0)
    assert about_store(tmp_path / "own")["segments"] == {"requested": None, "mean": 2.0, "min": 2, "max": 2}
    for open_it in (about_store, label_maps):
        with pytest.raises(ValueError, match=r"nowhere: expected an intact store of graphs; expected store.json"):
            open_it(tmp_path / "nowhere")
    exchange(tmp_path, '"graphs": 7', '"graphs": 8')
    for open_it in (about_store, label_maps):
        with pytest.raises(
            ValueError, match=r": expected an intact store of graphs; store.json: expected the checksum"
        ):
            open_it(tmp_path)


def test_label_maps_are_kept_on_request(tmp_path, monkeypatch):
    images = [*IMAGES, np.zeros((3, 5))]
    with monkeypatch.context() as patch:
        patch.setattr(archive, "join", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            images_to_store(images, FEW, tmp_path, workers=0, label_maps=True)
    part = sorted(tmp_path.glob("parts/*/*.maps"))[1]
    flip(part, part.stat().st_size // 2)
    store = images_to_store(images, FEW, tmp_path, workers=0, label_maps=True)
    maps = label_maps(tmp_path)
    assert len(maps) == 8
    for i, image in enumerate(images):
        assert torch.equal(maps[i], FEW(image).label_map)
        assert torch.equal(paint(maps[i], store[i].ndata["feat"]), paint(FEW(image), store[i].ndata["feat"]))
    assert torch.equal(maps[-1], maps[7])
    assert [tuple(one.shape) for one in maps[5:9]] == [(12, 10), (12, 10), (3, 5)]
    with pytest.raises(IndexError):
        maps[8]
    assert len(images_to_store(images, FEW, tmp_path, workers=0)) == 8, "a store with maps serves a request without"


def test_a_label_map_is_verified_when_it_is_read(tmp_path):
    images_to_store(IMAGES, FEW, tmp_path, workers=0, label_maps=True)
    maps, path = label_maps(tmp_path), tmp_path / "label_maps.npy"
    place = path.stat().st_size - 2 * 120 * 2 + 5  # in the last but one
    flip(path, place)
    assert torch.equal(maps[6], FEW(IMAGES[6]).label_map)
    with pytest.raises(ValueError, match=rf"{path}: expected map 5 as it was written, got a damaged one"):
        maps[5]
    os.truncate(path, 200)
    with pytest.raises(ValueError, match=rf"{path}: expected map 6 as it was written, got a damaged one"):
        maps[-1]


def test_label_maps_that_are_missing_or_damaged(tmp_path):
    images_to_store(IMAGES, FEW, tmp_path, workers=0)
    with pytest.raises(FileNotFoundError, match=r"expected a store with label maps, got none; .*label_maps=True"):
        label_maps(tmp_path)
    with pytest.raises(ValueError, match="expected the store of label_maps True, got None"):
        images_to_store(IMAGES, FEW, tmp_path, workers=0, label_maps=True)
    for harm in (lambda path: flip(path, path.stat().st_size - 3), lambda path: os.truncate(path, 150), os.remove):
        images_to_store(IMAGES, FEW, tmp_path / "maps", workers=0, label_maps=True)
        harm(tmp_path / "maps" / "label_maps.npy")
        with pytest.raises(ValueError, match="expected intact label maps; "):
            label_maps(tmp_path / "maps")
        with pytest.warns(RuntimeWarning, match="label_maps.npy.*; rebuilding it"):
            images_to_store(IMAGES, FEW, tmp_path / "maps", workers=0, label_maps=True)
        assert torch.equal(label_maps(tmp_path / "maps")[6], FEW(IMAGES[6]).label_map)


@pytest.mark.slow
def test_single_nodes_and_graphs_of_more_than_two_bytes_side_by_side(tmp_path):
    images = [np.zeros((1, 1)), np.random.default_rng(1).random((14, 14)), np.zeros((1, 1)), np.zeros((1, 1))]
    recipe = Recipe(SLIC(196, compactness=100.0), Within(), self_loops=True)
    store = images_to_store(images, recipe, tmp_path, workers=0)
    assert store[1].num_edges() >= 2**15
    assert {value.dtype for value in store._flat.ends.values()} == {torch.int32}
    assert_equal(store, [*map(recipe, images)])


@pytest.mark.process
def test_a_worker_writes_the_same_bytes(tmp_path, preloaded):
    for workers in (0, 1):
        images_to_store(torch.from_numpy(IMAGES), FEW, tmp_path / str(workers), LABELS, workers=workers)
    for name in ("columns.bin", "store.json"):
        assert (tmp_path / "0" / name).read_bytes() == (tmp_path / "1" / name).read_bytes()
    assert sorted(path.name for path in (tmp_path / "1").iterdir()) == ["columns.bin", "lock", "store.json"]


# ---------------------------------------------------------------- what is there already


@pytest.fixture
def converted(monkeypatch):
    """Those images that a recipe was called for so far."""
    seen, regions = [], Recipe.regions
    monkeypatch.setattr(Recipe, "regions", lambda recipe, image: (seen.append(image), regions(recipe, image))[1])
    return seen


def test_complete_store_is_not_rebuilt(converted, tmp_path):
    images_to_store(IMAGES, FEW, tmp_path, LABELS, workers=0)
    assert len(converted) == 1 + 7  # the first one, to know the columns
    mtime = (tmp_path / "columns.bin").stat().st_mtime_ns
    store = images_to_store(IMAGES, FEW, tmp_path, LABELS, workers=0)
    assert len(converted) == 8
    assert (tmp_path / "columns.bin").stat().st_mtime_ns == mtime
    assert_equal(store, [*map(FEW, IMAGES)])


@pytest.mark.parametrize("moment", range(5))
def test_resume_after_interruption(moment, converted, tmp_path, monkeypatch):
    """Before the first, second, third part, the columns, or the note is in its place."""
    replace, calls = os.replace, []

    def killed(*paths):
        calls.append(paths)
        if len(calls) > moment:
            raise KeyboardInterrupt
        replace(*paths)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", killed)
        with pytest.raises(KeyboardInterrupt):
            images_to_store(IMAGES, FEW, tmp_path, workers=0)
    for folder in (tmp_path, *tmp_path.glob("parts/*")):
        (folder / ".half.npz").write_bytes(b"PK")  # as a process leaves it that has no time to tidy
    with pytest.raises(ValueError, match="expected an intact store of graphs; expected store"):
        GraphStore.open(tmp_path)
    converted.clear()
    store = images_to_store(IMAGES, FEW, tmp_path, workers=0)
    assert len(converted) == 1 + max(0, 7 - 3 * moment)
    assert_equal(store, [*map(FEW, IMAGES)])
    assert not (tmp_path / "parts").exists()


@pytest.mark.parametrize("damaged", [b"", b"PK", None])
def test_damaged_part_is_rebuilt(damaged, converted, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(archive, "join", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            images_to_store(IMAGES, FEW, tmp_path, workers=0)
    part = sorted(tmp_path.glob("parts/*/*.npz"))[1]
    if damaged is None:
        flip(part, part.stat().st_size // 2)
    else:
        part.write_bytes(damaged)
    converted.clear()
    store = images_to_store(IMAGES, FEW, tmp_path, workers=0)
    assert len(converted) == 1 + 3
    assert_equal(store, [*map(FEW, IMAGES)])


def flip(path, at):
    with open(path, "r+b") as file:
        file.seek(at)
        byte = file.read(1)
        file.seek(at)
        file.write(bytes([byte[0] ^ 1]))


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (lambda f: os.truncate(f / "columns.bin", 999), r"columns.bin: expected \d+ bytes, got 999"),
        (lambda f: (f / "columns.bin").unlink(), r"columns.bin: expected \d+ bytes, got 0"),
        (
            lambda f: flip(f / "columns.bin", 2000),
            r"columns.bin: expected checksum \d+ of the bytes from 0 on, got \d+",
        ),
        (lambda f: (f / "store.json").write_text("{}"), "'version': 2}, got {'magic': None, 'version': None}"),
        (lambda f: (f / "store.json").write_text("[1"), r"store.json is damaged \(.*\)"),
        (lambda f: alter(f, version=1), "'version': 2}, got {'magic': 'gnnlib graphs', 'version': 1}"),
        (lambda f: exchange(f, '"graphs": 7', '"graphs": 8'), "store.json: expected the checksum that it holds"),
        (lambda f: alter(f, bytes=None), r"store.json: bytes: expected a number, got None"),
        (lambda f: alter(f, columns={}), r"store.json: expected columns nodes, edges, .*, got none"),
    ],
)
def test_damaged_store_is_rebuilt(harm, message, tmp_path):
    images_to_store(IMAGES, FEW, tmp_path, LABELS, workers=0)
    harm(tmp_path)
    with pytest.raises(ValueError, match=f"{tmp_path}: expected an intact store of graphs; .*{message}"):
        GraphStore.open(tmp_path)
    with pytest.warns(RuntimeWarning, match=f"damaged store {tmp_path}: .*{message}; rebuilding it"):
        store = images_to_store(IMAGES, FEW, tmp_path, LABELS, workers=0)
    assert_equal(store, [*map(FEW, IMAGES)])
    assert torch.equal(store.labels, LABELS)


def alter(folder, **changes):
    """Changes values of the header, and seals it again."""
    path = folder / "store.json"
    path.write_text(json.dumps(seal(json.loads(path.read_text()) | changes)))


def exchange(folder, old, new):
    path = folder / "store.json"
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))


@pytest.mark.parametrize(
    ("images", "recipe", "labels", "message"),
    [
        (
            IMAGES,
            recipes.monti,
            LABELS,
            r"recipe Recipe\(segment=MaskSLIC\(.*, got Recipe\(segment=SLIC\(num_segments=9",
        ),
        (IMAGES, Recipe(FEW.segment, Nearest(4)), LABELS, r"recipe .*Nearest\(k=4.*, got .*Nearest\(k=3"),
        (IMAGES + 1e-9, FEW, LABELS, "images [0-9a-f]{64}, got [0-9a-f]{64}; name another folder, or remove this one"),
        (IMAGES.reshape(7, 10, 12), FEW, LABELS, "images"),
        (IMAGES[:6], FEW, LABELS[:6], "graphs 6, got 7"),
        (IMAGES, FEW, LABELS + 1, "labels [0-9a-f]{64}, got"),
        (IMAGES, FEW, None, "labels None, got"),
    ],
)
def test_store_of_other_arguments_raises(images, recipe, labels, message, converted, tmp_path):
    images_to_store(IMAGES, FEW, tmp_path, LABELS, workers=0)
    converted.clear()
    with pytest.raises(ValueError, match=f"{tmp_path}: expected the store of {message}"):
        images_to_store(images, recipe, tmp_path, labels, workers=0)
    assert not converted
    assert len(GraphStore.open(tmp_path)) == 7


def test_parts_of_other_arguments_are_ignored(converted, tmp_path, monkeypatch):
    """A run under one recipe was killed, and another recipe takes over the folder."""
    with pytest.raises(ValueError, match="image 5: expected finite values"):
        images_to_store([*IMAGES[:5], np.full((12, 10), np.nan)], FEW, tmp_path, workers=0)
    assert len([*tmp_path.glob("parts/*/*.npz")]) == 1
    assert_equal(images_to_store(IMAGES, recipes.avelar, tmp_path, workers=0), [*map(recipes.avelar, IMAGES)])


@pytest.mark.parametrize("channels", [3, 4])
def test_a_single_picture_is_not_taken_for_many(channels, tmp_path):
    picture = np.zeros((9, 8, channels), np.uint8)
    with pytest.raises(ValueError, match=r"images: expected .*images\[None\] for a single one, got \(9, 8, [34]\)"):
        images_to_store(picture, FEW, tmp_path / "store", workers=0)
    assert not (tmp_path / "store").exists()


def test_other_scikit_image_raises(tmp_path):
    images_to_store(IMAGES, FEW, tmp_path, workers=0)
    alter(tmp_path, **{"scikit-image": "0.1"})
    with pytest.raises(ValueError, match=r"expected the store of scikit-image 0\.\d.*, got 0\.1;"):
        images_to_store(IMAGES, FEW, tmp_path, workers=0)


# ---------------------------------------------------------------- a store on the disk


def test_it_is_memory_mapped_and_pickled_by_name(tmp_path):
    store = images_to_store(IMAGES, FEW, tmp_path, LABELS, workers=0)
    maps = Path("/proc/self/maps").read_text() if sys.platform == "linux" else str(tmp_path / "columns.bin")
    assert str(tmp_path / "columns.bin") in maps
    sent = pickle.dumps(store)
    assert len(sent) < 1000
    assert_equal(pickle.loads(sent), [*map(FEW, IMAGES)])
    part = pickle.loads(pickle.dumps(store.select([3, 1])))
    assert_equal(part, [FEW(IMAGES[3]), FEW(IMAGES[1])])
    os.truncate(tmp_path / "store.json", 3)
    with pytest.raises(ValueError, match="expected an intact store"):
        pickle.loads(sent)


@pytest.mark.process
def test_loaders_read_it_as_any_store(tmp_path):
    store = images_to_store(IMAGES, FEW, tmp_path, LABELS, workers=0)
    ours = GraphStore(map(FEW, IMAGES), LABELS)
    for options in ({}, dict(num_workers=1, multiprocessing_context="fork")):
        for (a, i), (b, j) in zip(store.loader(3, **options), ours.loader(3), strict=True):
            assert torch.equal(i, j)
            assert all(torch.equal(a.edata[name], b.edata[name]) for name in b.edata)


PEAK = """
import resource, sys
from pathlib import Path
from gnnlib.data import archive
folder, part = map(Path, sys.argv[1:])
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
archive.join(folder, [part] * 100, {})
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before, archive.read(folder)[0].nodes[-1].item())
"""


@pytest.mark.process
@pytest.mark.skipif(sys.platform != "linux", reason="counts the pages of this process in KiB")
def test_memory_does_not_grow_with_the_store(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(archive, "join", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            images_to_store(np.random.default_rng(0).random((1, 90, 90)), Recipe(SLIC(8100), Nearest(8)), tmp_path)
    (part,) = tmp_path.glob("parts/*/*.npz")
    run = subprocess.run([sys.executable, "-c", PEAK, tmp_path, part], capture_output=True, text=True, check=True)
    grown, nodes = map(int, run.stdout.split())
    assert nodes == 100 * 8100
    size = (tmp_path / "columns.bin").stat().st_size
    assert grown * 1024 < 0.1 * size


# ---------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("bad", "error", "message"),
    [
        (np.full((12, 10), np.nan), ValueError, "image 5: expected finite values, got nan"),
        (np.zeros(3), ValueError, r"image 5: expected 2 axes, or 3 with channels last, got shape \(3,\)"),
        (np.zeros((0, 4)), ValueError, r"image 5: expected at least one pixel and channel, got shape \(0, 4\)"),
        (np.zeros((4, 4), int), TypeError, "image 5: expected uint8, uint16 or floating point, got int64"),
        (np.zeros((4, 4, 3)), ValueError, r"image 5: expected columns as of image 0, .*\(3,\).*, got .*\(5,\)"),
    ],
)
def test_error_has_the_number_of_the_image(bad, error, message, tmp_path):
    with pytest.raises(error, match=message):
        images_to_store([*IMAGES[:5], bad, *IMAGES], FEW, tmp_path, workers=0)


def test_invalid_arguments(tmp_path):
    with pytest.raises(ValueError, match="images: expected at least one, got none"):
        images_to_store(IMAGES[:0], FEW, tmp_path)
    with pytest.raises(ValueError, match=r"labels: expected one for each of 7 images, got shape \(6,\)"):
        images_to_store(IMAGES, FEW, tmp_path, LABELS[:6])
    with pytest.raises(TypeError, match=r"recipe: expected one such as .*dwivedi, got 'dwivedi'"):
        images_to_store(IMAGES, "dwivedi", tmp_path)


SCRIPT = """
import signal, sys, numpy as np
from gnnlib.images import images_to_store, recipes, scale
signal.signal(signal.SIGINT, signal.default_int_handler)  # a suite that runs in the background ignores it
scale.PART = 784
images_to_store(np.zeros((10**4, 28, 28), np.uint8), recipes.dwivedi, sys.argv[1], workers=1)
"""


@pytest.mark.process
def test_an_interrupt_ends_it_soon_and_without_noise(tmp_path):
    """From a terminal, which sends the signal to the workers too; the script has no guard against running again."""
    run = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, tmp_path], stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    while run.poll() is None and not [*tmp_path.glob("parts/*/[0-9]*.npz")]:
        time.sleep(0.05)
    os.killpg(run.pid, signal.SIGINT)
    message = run.communicate(timeout=60)[1]
    assert message.rstrip().endswith("KeyboardInterrupt")
    assert message.count("Traceback") == 1
    assert run.returncode in (-signal.SIGINT, 1, 130)
