"""Models of pictures: recipes as JSON and back, predictions for files, and folders that run nothing."""

import json
import sys
from functools import partial

import numpy as np
import pytest
import torch

pytest.importorskip("skimage", reason="scikit-image is not installed")

from gnnlib import GCNConv, Stack, Standardize, load_recipe, predict, predict_images, readout_mean, save_model
from gnnlib._utils.documents import seal
from gnnlib.images import SLIC, Decay, MaskSLIC, Nearest, Strongest, Touching, Within, image_folder, recipes, segment
from gnnlib.images.recipes import Recipe
from gnnlib.io.recipe import describe_recipe, rebuild_recipe

IMAGES = np.random.default_rng(0).random((5, 12, 14)).astype(np.float32)


def brightness(regions):
    """A feature of the caller's."""
    return regions.mean(regions.values**2)


def cells(values, size=4):
    """A segmentation of the caller's."""
    rows, columns = np.indices(values.shape[:2]) // size
    return rows * 100 + columns


RECIPES = {
    **{name: getattr(recipes, name) for name in recipes.__all__ if name != "Recipe"},
    "slic": Recipe(SLIC(9, max_segments=7, compactness=0.1), Within(5.0, sigma=2.0, decay=Decay(1, 1)), ["hog", "lbp"]),
    "mask": Recipe(MaskSLIC(9, 1.0), Strongest(3), ("mean", "solidity"), self_loops=True, channels=3),
    "partial": Recipe(partial(segment, num_segments=9, compactness=0.5), Nearest(2, sigma=3.0)),
}


def model(recipe=recipes.avelar):
    torch.manual_seed(0)
    width = recipe(IMAGES[0]).ndata["feat"].shape[1]
    return Stack.build(GCNConv, width, 8, 3, num_layers=2, readout=readout_mean).eval()


@pytest.mark.parametrize("name", RECIPES)
def test_recipes_return(name):
    recipe = RECIPES[name]
    spec = json.loads(json.dumps(describe_recipe(recipe)))
    rebuilt = rebuild_recipe(spec)
    assert describe_recipe(rebuilt) == spec
    assert rebuilt.channels == recipe.channels
    for frames in ("ndata", "edata"):
        ours, expected = (getattr(one(IMAGES[0]), frames) for one in (rebuilt, recipe))
        assert all(torch.equal(ours[key], expected[key]) for key in expected)


def test_functions_of_the_caller_are_given_again(tmp_path):
    recipe = Recipe(partial(cells, size=3), Touching(), ("mean", brightness))
    save_model(model(recipe), tmp_path, recipe=recipe)
    with pytest.raises(ValueError, match=r"got .*\.cells; if you trust it: safe_globals=\[cells\]"):
        load_recipe(tmp_path)
    with pytest.raises(ValueError, match=r"got .*\.brightness; if you trust it: safe_globals=\[brightness\]"):
        predict_images(tmp_path, IMAGES, safe_globals=[cells])
    loaded = load_recipe(tmp_path, safe_globals=[cells, brightness])
    assert (loaded.segment.func, loaded.segment.keywords, loaded.features) == (cells, {"size": 3}, recipe.features)
    expected = predict(model(recipe), [recipe(image) for image in IMAGES])
    assert torch.equal(predict_images(tmp_path, IMAGES, safe_globals=[cells, brightness]), expected)


def test_pictures_of_every_kind(tmp_path):
    pil = pytest.importorskip("PIL.Image")
    recipe, levels = Recipe(SLIC(6), Touching(), channels=1), (255 * IMAGES).astype(np.uint8)
    network = Standardize.fit(model(recipe), torch.cat([recipe(image).ndata["feat"] for image in levels]))
    save_model(network, tmp_path / "model", recipe=recipe)
    expected = predict(network, [recipe(image) for image in levels])
    paths = []
    for i, image in enumerate(levels):
        paths.append(tmp_path / "photos" / f"{i}.png")
        paths[i].parent.mkdir(exist_ok=True)
        pil.fromarray(image).convert("RGBA" if i == 2 else "L").save(paths[i])
    for photos in (levels, torch.from_numpy(levels), paths, [str(path) for path in paths], tmp_path / "photos",
                   image_folder(tmp_path / "photos"), [pil.open(path) for path in paths]):  # fmt: skip
        torch.testing.assert_close(predict_images(tmp_path / "model", photos, batch_size=2), expected)
    colour = np.stack([levels[0]] * 3, -1)
    for photo in (levels[0], levels[0][..., None], colour, torch.from_numpy(colour), paths[0], pil.open(paths[0])):
        torch.testing.assert_close(predict_images(tmp_path / "model", photo), expected[:1])


def test_edge_weights(tmp_path):
    save_model(model(), tmp_path, recipe=recipes.avelar)
    graphs = [recipes.avelar(image) for image in IMAGES]
    for edge in (None, "weight"):
        assert torch.equal(predict_images(tmp_path, IMAGES, edge=edge), predict(model(), graphs, edge=edge))


def test_errors(tmp_path):
    save_model(model(), tmp_path / "without")
    with pytest.raises(ValueError, match=r"expected a model that was saved with save_model\(recipe=.*, got one with"):
        predict_images(tmp_path / "without", IMAGES)
    save_model(model(), tmp_path, recipe=recipes.avelar)
    with pytest.raises(ValueError, match="picture 1: image: expected finite values"):
        predict_images(tmp_path, [IMAGES[0], np.full((12, 14), np.nan)])
    with pytest.raises(FileNotFoundError, match=r"nowhere\.png"):
        predict_images(tmp_path, tmp_path / "nowhere.png")
    with pytest.raises(ValueError, match="expected one picture or more, got none"):
        predict_images(tmp_path, [])
    colour = np.stack([IMAGES[0]] * 3, -1)
    with pytest.raises(ValueError, match=r"expected grey or colour pictures like.*, got 5 features"):
        predict_images(tmp_path, colour)
    with pytest.raises(ValueError, match="picture 1: expected as many channels as picture 0, whose nodes have 3 feat"):
        predict_images(tmp_path, [IMAGES[0], colour])
    before = (tmp_path / "config.json").read_bytes()
    for recipe, message in (
        (Recipe(partial(cells, IMAGES), Touching()), "recipe.segment: expected functions, their partials with keyw"),
        ("avelar", "recipe: expected a gnnlib.images.recipes.Recipe, got 'avelar'"),
    ):
        with pytest.raises(ValueError, match=message):
            save_model(model(), tmp_path, recipe=recipe)
    assert (tmp_path / "config.json").read_bytes() == before, "nothing is written"


@pytest.mark.parametrize(
    "part",
    [
        {"name": "os.system"},
        {"name": "os.system", "fields": {"command": "true"}},
        {"name": "gnnlib.images.images_to_store", "fields": {}},
        {"name": "gnnlib.images.segment", "fields": {"mask": "/etc/passwd"}},
        {"name": "gnnlib.images.segment", "fields": {"image": {"name": "gnnlib.images.SLIC", "fields": {}}}},
        {"name": "gnnlib.images.SLIC", "fields": {"num_segments": -1}},
        {"name": "gnnlib.images.SLIC", "fields": {"__class__": 3}},
        {"name": ["gnnlib.images.SLIC"]},
        {"fields": {}},
        7,
        [7],
        None,
    ],
    ids=str,
)
def test_changed_recipes_run_nothing(part, tmp_path):
    """With a right checksum: the message has the folder's name, and nothing is imported or called."""
    save_model(model(), tmp_path, recipe=recipes.avelar)
    path = tmp_path / "config.json"
    config = json.loads(path.read_text())
    config["recipe"]["segment"] = part
    path.write_text(json.dumps(seal(config)))
    modules = set(sys.modules)
    with pytest.raises((ValueError, TypeError), match=str(tmp_path)):
        load_recipe(tmp_path)
    assert set(sys.modules) == modules


def test_loading_imports_nothing(tmp_path):
    """A recipe that names a module which is importable and not imported."""
    save_model(model(), tmp_path, recipe=recipes.avelar)
    path = tmp_path / "config.json"
    config = json.loads(path.read_text())
    config["recipe"]["features"] = [{"name": "this.d"}]
    path.write_text(json.dumps(seal(config)))
    with pytest.raises(ValueError, match=r"got this.d; if you trust it: safe_globals=\[d\]"):
        predict_images(tmp_path, IMAGES)
    assert "this" not in sys.modules
