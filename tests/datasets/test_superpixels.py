"""MNIST as superpixel graphs: the same graphs as one by one, from workers, and from the cache."""

import sys

import numpy as np
import pytest
import torch

from gnnlib._platform.dgl import dgl
from gnnlib.datasets import mnist, superpixels
from gnnlib.images import Nearest, recipes, scale
from gnnlib.images.recipes import Recipe
from gnnlib.images.segments import SLIC

pytest.importorskip("skimage", reason="scikit-image is not installed")
module = sys.modules["gnnlib.datasets._superpixels"]


@pytest.fixture
def data(tmp_path, write_mnist):
    """A directory with six images: noise in a disc, and one blank."""
    rng = np.random.default_rng(0)
    rows, columns = np.indices((28, 28)) - 13.5
    images = rng.integers(0, 256, (6, 28, 28)) * (rows**2 + columns**2 < 100)
    images[3] = 0
    for part in ("train", "t10k"):
        write_mnist(tmp_path / "data", images, np.arange(6), part)
        images = images[::-1]
    return tmp_path / "data"


FEW = Recipe(SLIC(20, compactness=0.25), Nearest(3))


@pytest.fixture
def conversions(monkeypatch):
    """How many images each conversion had."""
    calls = []
    convert = scale._convert_all
    monkeypatch.setattr(
        scale, "_convert_all", lambda images, *args: calls.append(len(images)) or convert(images, *args)
    )
    return calls


def assert_same(store, graphs):
    batch, expected = store.batch(range(len(store))), dgl.batch(graphs)
    for ours, theirs in zip(batch.edges(order="eid"), expected.edges(order="eid")):
        assert torch.equal(ours, theirs)
    for ours, theirs in ((batch.ndata, expected.ndata), (batch.edata, expected.edata)):
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_equal_to_one_by_one(data, conversions):
    expected = [FEW(image) for image in mnist(data)[0]]
    for _ in range(2):  # converted, then from the cache
        store = superpixels(mnist, data, recipe=FEW)
        assert_same(store, expected)
        assert store.labels.tolist() == list(range(6))
    assert conversions == [6]


def test_another_recipe_is_another_cache_entry(data, conversions, write_mnist, monkeypatch):
    arguments = [
        {"limit": 4},
        {"limit": 3},
        {"limit": 3, "train": False},
        {"limit": 3, "recipe": FEW},
        {"limit": 3, "recipe": recipes.avelar},
    ]
    for _ in range(2):
        for options in arguments:
            superpixels(mnist, data, **options)
        assert conversions == [4, 3, 3, 3, 3]
    monkeypatch.setattr(module.importlib.metadata, "version", lambda name: "0.0")  # another scikit-image
    superpixels(mnist, data, limit=3)
    images, labels = (tensor.numpy().copy() for tensor in mnist(data))
    images[0, 14, 14] ^= 1
    write_mnist(data, images, labels)
    superpixels(mnist, data, limit=3)
    assert conversions[5:] == [3, 3]


def test_a_damaged_cache_is_named_and_made_again(data, cache, conversions):
    store = superpixels(mnist, data, limit=2)
    expected = [store[0], store[1]]
    (path,) = cache.rglob("columns.bin")
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.warns(RuntimeWarning, match=f"damaged store {path.parent}: columns.bin: expected .* bytes, got"):
        assert_same(superpixels(mnist, data, limit=2), expected)
    assert conversions == [2, 2]


@pytest.mark.parametrize("limit", [0, -1, 7])
def test_bad_limits(data, limit):
    with pytest.raises(ValueError, match=f"expected limit from 1 to 6, the number of images, got {limit}"):
        superpixels(mnist, data, limit=limit)


@pytest.mark.process
def test_workers_and_an_unguarded_script(data, tmp_path, cache, server):
    """Workers give the same graphs, also to a script without `if __name__ == "__main__"`."""
    script = tmp_path / "script.py"
    script.write_text(
        "import warnings\n"
        "warnings.simplefilter('error')\n"
        "print('running')\n"
        "from gnnlib.datasets import mnist, superpixels\n"
        f"print(len(superpixels(mnist, {str(data)!r}, workers=1)))\n"
    )
    done = server.start(script, env={"GNNLIB_CACHE": str(cache)}).wait()
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["running", "6"]
    (path,) = cache.rglob("columns.bin")
    written = path.stat().st_mtime_ns
    assert_same(superpixels(mnist, data), [recipes.dwivedi(image) for image in mnist(data)[0]])
    assert path.stat().st_mtime_ns == written


def test_real_images(data_dir):
    if not (data_dir / "mnist").is_dir():
        pytest.skip(f"no real data: {data_dir} has no mnist")
    store = superpixels(mnist, data_dir, train=False, limit=100)
    assert store.labels[:5].tolist() == [7, 2, 1, 0, 4]
    for graph in store:
        assert 40 <= graph.num_nodes() <= 75
        assert graph.out_degrees().eq(8).all()
        assert 0 <= graph.ndata["feat"].min() <= graph.ndata["feat"].max() <= 1
        assert 0 <= graph.ndata["pos"].min() <= graph.ndata["pos"].max() <= 27
