"""Images in other layouts: channels first, masked arrays, and pixels that are no squares."""

import numpy as np
import pytest
import torch
from scipy import ndimage

from gnnlib.images import (
    Nearest,
    Regions,
    Touching,
    Within,
    graph_from_labels,
    hierarchy,
    icosphere,
    images_to_store,
    pixel_graph,
    point_graph,
    recipes,
    region_features,
    segment,
    superpixel_arrays,
    superpixel_graph,
)
from gnnlib.images._image import parse_image

pytest.importorskip("skimage", reason="scikit-image is not installed")

RANDOM = np.random.default_rng(0)

# ---------------------------------------------------------------- channels

ENTRIES = {
    "superpixel_graph": superpixel_graph,
    "superpixel_arrays": superpixel_arrays,
    "segment": segment,
    "pixel_graph": pixel_graph,
    "recipe": recipes.dwivedi,
    "recipe arrays": recipes.avelar.arrays,
}


@pytest.mark.parametrize("entry", ENTRIES)
@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 28, 28), (4, 16, 20)])
def test_channels_first_are_refused(entry, shape):
    for image in (np.zeros(shape), torch.zeros(shape), torch.zeros(shape, dtype=torch.uint8)):
        with pytest.raises(ValueError, match=r"image: expected channels last, got .* channels first; move them"):
            ENTRIES[entry](image)


def test_channels_first_of_a_volume_and_of_a_store(tmp_path):
    for function in (superpixel_graph, segment, pixel_graph):
        with pytest.raises(ValueError, match=r"got shape \(3, 8, 9, 10\), which looks like channels first"):
            function(np.zeros((3, 8, 9, 10)), axes=3)
    with pytest.raises(ValueError, match=r"image 0: expected channels last, got shape \(3, 16, 16\)"):
        images_to_store(torch.zeros(2, 3, 16, 16), recipes.avelar, tmp_path, workers=0)


def test_the_advice_of_the_message_works():
    image = RANDOM.random((3, 8, 9))
    moved = superpixel_graph(np.moveaxis(image, 0, -1), 9)
    assert moved.ndata["feat"].shape[1] == 3
    assert moved.label_map.shape == (8, 9)
    confirmed = superpixel_graph(image, 9, channels=9)
    assert confirmed.ndata["feat"].shape[1] == 9
    assert confirmed.label_map.shape == (3, 8)
    assert segment(image, 9, channels=9).shape == (3, 8)
    assert pixel_graph(image, channels=9).ndata["feat"].shape == (24, 9)


def test_other_shapes_are_not_refused():
    for shape in ((3, 32), (3, 32, 4), (5, 9, 9), (1, 1), (2, 2, 1), (4, 7, 3)):
        assert parse_image(np.zeros(shape), 2).shape == shape[:2]
    assert parse_image(np.zeros((3, 20, 20)), 3).shape == (3, 20, 20)
    assert graph_from_labels(np.zeros((3, 4, 9)), np.zeros((3, 4), int)).ndata["feat"].shape == (1, 9)


def test_wrong_channels():
    with pytest.raises(ValueError, match=r"image: expected 3 channels last, got shape \(6, 6, 4\)"):
        superpixel_graph(np.zeros((6, 6, 4)), 4, channels=3)
    with pytest.raises(ValueError, match=r"image: expected 3 channels last, got shape \(6, 6\)"):
        pixel_graph(np.zeros((6, 6)), channels=3)
    with pytest.raises(TypeError, match="channels: expected an integer, got 'last'"):
        segment(np.zeros((6, 6, 4)), 4, channels="last")


# ---------------------------------------------------------------- masked arrays


def masked(shape=(9, 8, 2)):
    values = RANDOM.random(shape)
    hidden = np.zeros(shape, bool)
    hidden[:3, :4] = True
    hidden[5, 5, 0] = True  # one channel of a pixel is enough
    values[hidden] = np.nan
    return np.ma.masked_array(values, hidden), ~hidden.any(-1)


@pytest.mark.parametrize("graph_of", [lambda image, **options: superpixel_graph(image, 9, **options), pixel_graph])
def test_masked_entries_are_outside_the_mask(graph_of):
    image, inside = masked()
    graph, expected = graph_of(image), graph_of(image.data, mask=inside)
    assert torch.equal(graph.label_map, expected.label_map)
    assert torch.equal(graph.ndata["feat"], expected.ndata["feat"])
    other = np.ones(inside.shape, bool)
    other[:, 7] = False
    assert torch.equal(graph_of(image, mask=other).label_map, graph_of(image.data, mask=inside & other).label_map)


def test_masked_entries_of_labelled_images():
    image, inside = masked()
    labels = np.arange(72).reshape(9, 8) // 6
    graph, expected = graph_from_labels(image, labels), graph_from_labels(image.data, labels, mask=inside)
    assert torch.equal(graph.label_map, expected.label_map)
    assert (graph.label_map.numpy() >= 0).tolist() == inside.tolist()
    tree = hierarchy(image, labels, ["size"])
    assert torch.equal(tree.graph.label_map, expected.label_map)


def test_masked_arrays_elsewhere_are_refused(tmp_path):
    image, _ = masked((9, 8, 1))
    flat = np.ma.masked_equal(np.arange(9).reshape(3, 3), 4)
    vertices, faces = icosphere(0)
    for call in (
        lambda: graph_from_labels(np.zeros((3, 3)), flat),
        lambda: superpixel_graph(np.zeros((3, 3)), 2, mask=flat > 3),
        lambda: point_graph(np.ma.masked_array(vertices), faces[:, :2]),
        lambda: images_to_store([image], recipes.avelar, tmp_path, workers=0),
    ):
        with pytest.raises(TypeError, match=r"expected an array without a mask, got a masked one; pass array.data"):
            call()
    with pytest.raises(ValueError, match="mask: expected at least one pixel inside, got none of 4"):
        superpixel_graph(np.ma.masked_all((2, 2)), 1)


# ---------------------------------------------------------------- spacing

SPACING = (5.0, 1.0, 2.0)
VOLUME = RANDOM.random((6, 9, 8))


def test_positions_of_regions_are_in_the_unit_of_the_spacing():
    labels = np.arange(VOLUME.size).reshape(VOLUME.shape) // 7
    graph, plain = graph_from_labels(VOLUME, labels, 4, spacing=SPACING), graph_from_labels(VOLUME, labels, 4)
    torch.testing.assert_close(graph.ndata["pos"], plain.ndata["pos"] * torch.tensor(SPACING))
    src, dst = graph.edges()
    torch.testing.assert_close(graph.edata["offset"], graph.ndata["pos"][src] - graph.ndata["pos"][dst])
    distance = torch.cdist(graph.ndata["pos"], graph.ndata["pos"]).fill_diagonal_(torch.inf)
    nearest = distance.topk(4, largest=False).values
    torch.testing.assert_close(graph.edata["distance"].view(-1, 4), nearest, rtol=1e-4, atol=1e-4)
    assert not torch.equal(torch.stack(graph.edges()), torch.stack(plain.edges()))


@pytest.mark.parametrize("rule", [Nearest(3), Within(relative=True, sigma=0.3), Touching()])
def test_features_and_rules_with_a_spacing(rule):
    labels = np.arange(VOLUME.size).reshape(VOLUME.shape) // 20
    regions, plain = (Regions.from_labels(VOLUME, labels, spacing=spacing) for spacing in (SPACING, None))
    np.testing.assert_allclose(regions.centroid, plain.centroid * SPACING)
    for name in ("mean", "area", "box", "place"):
        np.testing.assert_allclose(region_features(regions, [name]), region_features(plain, [name]))
    assert rule(regions)["weight"].shape[0] > 0
    if isinstance(rule, Within):
        np.testing.assert_allclose(rule(regions)["weight"], rule(plain)["weight"])


def extents(labels):
    """The mean extent of the regions along each axis, in voxels."""
    boxes = ndimage.find_objects(labels + 1)
    return np.mean([[side.stop - side.start for side in box] for box in boxes], 0)


def test_superpixels_are_compact_in_the_unit_of_the_spacing():
    """Where space counts more than colour, they are about as long as wide in millimetres, and else in voxels."""
    volume = ndimage.gaussian_filter(RANDOM.random((12, 24, 24)), 1)
    cubes, flat = (extents(segment(volume, 64, 10.0, axes=3, spacing=s)) for s in (None, (4, 1, 1)))
    assert cubes[1:] == pytest.approx([cubes[0]] * 2, rel=0.3)
    assert flat[1:] == pytest.approx([4 * flat[0]] * 2, rel=0.3)


def test_only_ratios_of_the_spacing_count_in_the_segmentation():
    expected = segment(VOLUME, 20, axes=3, spacing=SPACING)
    assert np.array_equal(segment(VOLUME, 20, axes=3, spacing=np.array(SPACING) * 1000), expected)
    assert np.array_equal(segment(VOLUME, 20, axes=3, spacing=(3, 3, 3)), segment(VOLUME, 20, axes=3))
    image = RANDOM.random((12, 12))
    assert np.array_equal(segment(image, 9, spacing=[2.5, 2.5]), segment(image, 9))
    graph = superpixel_graph(image, 9, spacing=(2, 3))
    labels = graph.label_map.numpy()
    centroid = [np.argwhere(labels == node).mean(0) * (2, 3) for node in range(graph.num_nodes())]
    np.testing.assert_allclose(graph.ndata["pos"], centroid, rtol=1e-5)


def test_pixel_graphs_with_a_spacing():
    graph, plain = pixel_graph(VOLUME, axes=3, spacing=SPACING), pixel_graph(VOLUME, axes=3)
    torch.testing.assert_close(graph.edata["offset"], plain.edata["offset"] * torch.tensor(SPACING))
    torch.testing.assert_close(graph.edata["distance"], graph.edata["offset"].norm(dim=1))
    assert torch.equal(graph.edata["tap"], plain.edata["tap"])
    assert torch.equal(
        pixel_graph((2, 2), spacing=(1, 3)).ndata["pos"], torch.tensor([[0, 0], [0, 3.0], [1, 0], [1, 3]])
    )
    assert torch.equal(pixel_graph((2, 2)).ndata["pos"], torch.tensor([[0, 0], [0, 1.0], [1, 0], [1, 1]]))


@pytest.mark.parametrize("spacing", [(1, 1), (1, 1, 0), (1, -1, 1), 5, (1, 1, np.nan), "abc", (1, 1, np.inf)])
def test_invalid_spacing(spacing):
    for function in (superpixel_graph, segment, pixel_graph):
        with pytest.raises(ValueError, match="spacing: expected a positive number for each of 3 axes, got"):
            function(VOLUME, axes=3, spacing=spacing)


# ---------------------------------------------------------------- connected superpixels


def blobs(shape, seed):
    """A random mask in several pieces, with thin bridges and single pixels."""
    random = np.random.default_rng(seed)
    mask = ndimage.gaussian_filter(random.standard_normal(shape), 1.5) > 0.02
    mask[tuple(axis[0] for axis in np.nonzero(~mask))] = True
    return mask


@pytest.mark.parametrize("shape", [(24, 30), (7, 12, 11)])
def test_superpixels_are_connected(shape):
    for seed in range(12):
        image, mask = np.random.default_rng(seed).random(shape), blobs(shape, seed)
        for inside in (mask, None):
            labels = segment(image, 40, axes=len(shape), mask=inside)
            assert ((labels >= 0) == (mask if inside is not None else True)).all()
            assert np.array_equal(np.unique(labels[labels >= 0]), np.arange(labels.max() + 1))
            pieces = [ndimage.label(labels == label)[1] for label in range(labels.max() + 1)]
            assert pieces == [1] * len(pieces), (seed, pieces)


def test_pieces_under_a_mask_are_those_of_scikit_image():
    """Nothing but the split: merged again, the labels are scikit-image's."""
    from skimage.segmentation import slic

    shape, split = (24, 30), 0
    for seed in range(12):
        image, mask = np.random.default_rng(seed).random(shape), blobs(shape, seed)
        labels = segment(image, 40, mask=mask)
        clusters = slic(image, 40, compactness=0.25, start_label=1, channel_axis=None, mask=mask)
        pairs = np.unique(np.stack([labels[mask], clusters[mask]]), axis=1)
        assert len(pairs[0]) == labels.max() + 1, "a superpixel is in one cluster"
        assert (np.diff(pairs[1]) >= 0).all(), "superpixels are in the order of the clusters"
        split += len(pairs[0]) - len(np.unique(clusters[mask]))
    assert split > 0, "no cluster of these masks is in several pieces"
