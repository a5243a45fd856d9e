"""What is known of regions: against loops over the label map, scipy and scikit-image; and values painted back."""

import numpy as np
import pytest
import torch
from scipy import ndimage

from gnnlib._platform.dgl import dgl
from gnnlib.images import graph_from_labels, paint, pixel_batch, pixel_graph, segment, superpixel_graph
from gnnlib.images._image import parse_image
from gnnlib.images._regions import FEATURES, Regions, region_features

RNG = np.random.default_rng(0)
LABELS = RNG.integers(0, 6, (7, 8))
MASK = RNG.random((7, 8)) < 0.8
COLOUR = RNG.random((7, 8, 3))


@pytest.mark.parametrize("mask", [None, MASK])
@pytest.mark.parametrize("channels", [(), (1,), (3,), (5,)])
def test_every_feature_against_a_loop(mask, channels):
    image = RNG.random((7, 8, *channels))
    regions = Regions.from_labels(image, LABELS, mask)
    inside = np.ones((7, 8), bool) if mask is None else mask
    rows = []
    for label in range(6):
        where = np.argwhere((label == LABELS) & inside)
        values = image[(label == LABELS) & inside].reshape(len(where), -1)
        rows.append(
            np.concatenate(
                [
                    values.mean(0),
                    values.std(0),
                    [len(where)],
                    where.min(0),
                    where.max(0) + 1,
                    where.mean(0),
                    where.mean(0) / (7, 8),
                ]
            )
        )
    got = region_features(regions, ["mean", "std", "area", "box", "centroid", "place"])
    np.testing.assert_allclose(got, rows, rtol=1e-12, atol=1e-12)


def test_scipy_agrees():
    graph = graph_from_labels(COLOUR[..., 0], LABELS, features=["mean", "std", "centroid"])
    numbers = np.arange(6)
    assert graph.ndata["feat"][:, 0].tolist() == pytest.approx(ndimage.mean(COLOUR[..., 0], LABELS, numbers))
    assert graph.ndata["feat"][:, 1].tolist() == pytest.approx(
        ndimage.standard_deviation(COLOUR[..., 0], LABELS, numbers)
    )
    centres = ndimage.center_of_mass(np.ones((7, 8)), LABELS, numbers)
    np.testing.assert_allclose(graph.ndata["feat"][:, 2:], centres, rtol=1e-6)
    assert torch.equal(graph.ndata["feat"][:, 2:], graph.ndata["pos"])


def test_lab_is_that_of_scikit_image():
    color = pytest.importorskip("skimage.color", reason="scikit-image is not installed")
    lab = color.rgb2lab(COLOUR)
    expected = [lab[label == LABELS].mean(0) for label in range(6)]
    np.testing.assert_allclose(region_features(Regions.from_labels(COLOUR, LABELS), ["lab"]), expected, rtol=1e-9)
    with pytest.raises(ValueError, match="lab: expected three channels, red, green and blue, got 1"):
        region_features(Regions.from_labels(COLOUR[..., :1], LABELS), ["lab"])


SEGMENTS = np.arange(30)[:, None] // 7 * 5 + np.arange(33) // 8  # rectangles, and a pixel by itself
SEGMENTS[4, 4] = 90


def shapes_and_textures():
    """Blobs of all shapes: a picture, its label map, and a mask."""
    rng = np.random.default_rng(3)
    picture = ndimage.gaussian_filter(rng.random((30, 33, 3)), (2, 2, 0))
    blobs = np.unique(np.digitize(picture[..., 0], np.quantile(picture[..., 0], [0.2, 0.5, 0.8])) * 100 + SEGMENTS)
    picture = (picture - picture.min()) / np.ptp(picture)
    return picture, np.searchsorted(blobs, np.digitize(picture[..., 0], [0.3, 0.5, 0.7]) * 100 + SEGMENTS)


@pytest.mark.parametrize("spacing", [None, (2.5, 1.0)])
@pytest.mark.parametrize("name", ["eccentricity", "solidity", "orientation"])
def test_shapes_are_those_of_scikit_image(name, spacing):
    measure = pytest.importorskip("skimage.measure", reason="scikit-image is not installed")
    picture, labels = shapes_and_textures()
    mask = np.ones(labels.shape, bool)
    mask[:, 20:23] = False
    got = region_features(Regions.from_labels(picture, labels, mask, spacing), [name])
    numbers = np.unique(labels[mask])
    expected = []
    for number in numbers:
        (region,) = measure.regionprops(((labels == number) & mask).astype(int), spacing=spacing)
        expected.append([region[name]])
    np.testing.assert_allclose(got, expected, rtol=1e-9, atol=1e-9)
    assert np.isfinite(got).all()


def test_shapes_by_hand():
    """A bar of 1 x 5 pixels and a square; the bar lies along the second axis, then along the first."""
    pytest.importorskip("skimage", reason="scikit-image is not installed")
    labels = np.zeros((9, 9), int)
    labels[1, 1:6] = 1
    labels[4:8, 4:8] = 2
    for turned in (labels, labels.T):
        features = region_features(Regions.from_labels(np.zeros((9, 9)), turned), ["eccentricity", "solidity"])
        assert features[1].tolist() == pytest.approx([1.0, 1.0], abs=0.03)
        assert features[2].tolist() == pytest.approx([0.0, 1.0])
    angles = [
        region_features(Regions.from_labels(np.zeros((9, 9)), one), ["orientation"])[1, 0] for one in (labels, labels.T)
    ]
    assert np.abs(angles) == pytest.approx([np.pi / 2, 0.0])


def test_local_binary_patterns_are_those_of_scikit_image():
    feature = pytest.importorskip("skimage.feature", reason="scikit-image is not installed")
    picture, labels = shapes_and_textures()
    levels = np.rint(255 * picture[..., 1]).astype(np.uint8)
    pattern = feature.local_binary_pattern(levels, 8, 1, method="uniform")
    expected = [np.bincount(pattern[labels == label].astype(int), minlength=10) for label in np.unique(labels)]
    expected = [row / row.sum() for row in expected]
    for image in (levels, levels / 255):
        got = region_features(Regions.from_labels(image, labels), ["lbp"])
        np.testing.assert_allclose(got, expected, rtol=1e-12)
    colour = region_features(Regions.from_labels(np.stack([levels] * 3, -1), labels), ["lbp"])
    np.testing.assert_allclose(colour, expected, rtol=1e-12)
    wide = region_features(Regions.from_labels(levels * 7.0 - 900, labels), ["lbp"])
    assert wide.sum(1) == pytest.approx(np.ones(len(expected)))


@pytest.mark.parametrize("channels", [1, 3])
def test_gradients_of_one_region_are_those_of_scikit_image(channels):
    feature = pytest.importorskip("skimage.feature", reason="scikit-image is not installed")
    picture = shapes_and_textures()[0][:, :32, :channels]
    expected = feature.hog(
        picture, orientations=9, pixels_per_cell=(30, 32), cells_per_block=(1, 1), block_norm="L2", channel_axis=-1
    )
    got = region_features(Regions.from_labels(picture, np.zeros((30, 32), int)), ["hog"])
    np.testing.assert_allclose(got, [expected], rtol=1e-6)


def test_gradients_of_a_slope_are_in_the_bin_of_its_direction():
    """Two regions, one that grows to the right and one that grows downwards."""
    rows, columns = np.mgrid[:12, :20].astype(float)
    picture = np.where(columns < 10, columns, 3 * rows)
    got = region_features(Regions.from_labels(picture, (columns > 9).astype(int)), ["hog"])
    assert got.argmax(1).tolist() == [0, 4]
    assert np.sqrt((got**2).sum(1)) == pytest.approx([1, 1])


def extents(regions):
    return regions.area / regions.label_map.size


def test_functions_as_features():
    graph = graph_from_labels(COLOUR, LABELS, features=["area", extents, lambda regions: regions.centroid])
    assert graph.ndata["feat"].shape == (6, 4)
    assert graph.ndata["feat"][:, 1].tolist() == pytest.approx((graph.ndata["feat"][:, 0] / 56).tolist())
    assert torch.equal(graph.ndata["feat"][:, 2:], graph.ndata["pos"])


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda regions: regions.area[1:], r"expected <lambda> to return numbers of shape \(6,\) or \(6, F\), got"),
        (lambda regions: np.array(["a"] * 6), r"numbers of shape \(6,\) or \(6, F\), got <U1 of \(6,\)"),
        (lambda regions: 3.0, r"numbers of shape .*, got float64 of \(\)"),
        (lambda regions: regions.area / 0, "expected finite numbers of <lambda>, got inf"),
    ],
)
@pytest.mark.filterwarnings("ignore:divide by zero")
def test_functions_that_return_something_else(function, message):
    with pytest.raises(ValueError, match=message):
        region_features(Regions.from_labels(COLOUR, LABELS), [function])


@pytest.mark.parametrize("name", ["eccentricity", "orientation", "lbp", "hog"])
def test_volumes_have_no_shapes_and_textures(name):
    regions = Regions.from_labels(np.zeros((3, 3, 3)), np.zeros((3, 3, 3), int))
    with pytest.raises(ValueError, match=f"{name}: expected a picture of two axes, got 3"):
        region_features(regions, [name])


@pytest.mark.parametrize("names", [[], "mean", ["mean", "median"]])
def test_unknown_features(names):
    with pytest.raises(
        ValueError, match="features: expected one or more of mean, std, lab, area, box, centroid, place"
    ):
        region_features(Regions.from_labels(COLOUR, LABELS), names)


def test_pil_images_are_their_arrays():
    pil = pytest.importorskip("PIL.Image", reason="Pillow is not installed")
    levels = RNG.integers(0, 256, (6, 5, 3)).astype(np.uint8)
    for array in (levels, levels[..., 0]):
        assert np.array_equal(parse_image(pil.fromarray(array), 2).values, parse_image(array, 2).values)
    bitmap = levels[..., 0] > 127
    assert np.array_equal(parse_image(pil.fromarray(bitmap), 2).values[..., 0], bitmap)
    few = pil.fromarray(levels // 128 * 255)
    palette = few.convert("P", palette=pil.Palette.ADAPTIVE)
    assert np.array_equal(parse_image(palette, 2).values, parse_image(few, 2).values)
    for mode in ("CMYK", "YCbCr", "HSV"):
        np.testing.assert_allclose(parse_image(pil.fromarray(levels).convert(mode), 2).values, levels / 255, atol=0.05)


@pytest.mark.parametrize("floating", [False, True])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("container", ["numpy", "torch", "PIL", "read-only"])
@pytest.mark.parametrize("shape", [(12, 10), (12, 10, 3), (12, 10, 5), (6, 5, 4), (6, 5, 4, 2)], ids=str)
def test_image_types(shape, container, masked, floating):
    """Grey, colour, many-channel and volumetric; from anywhere; of either type; with a mask and without."""
    pytest.importorskip("skimage", reason="scikit-image is not installed")
    axes = 3 if shape[0] == 6 else 2
    levels = RNG.integers(0, 256, shape).astype(np.uint8)
    mask = np.ones(shape[:axes], bool)
    mask[0] = mask[:, -1] = not masked
    image = levels.astype(np.float32) / 255 if floating else levels
    if container == "PIL" and (axes == 3 or shape[2:] == (5,) or (floating and len(shape) > 2)):
        pytest.skip("PIL has no such image")
    argument, where = _as(container, image), _as(container, mask) if masked else None
    graphs = [
        pixel_graph(argument, axes=axes, mask=where),
        superpixel_graph(argument, 12, 4, axes=axes, mask=where, features=["mean", "std", "area", "box"]),
        graph_from_labels(argument, _as(container, np.cumsum(mask).reshape(mask.shape) // 8), mask=where),
    ]
    expected = torch.from_numpy(levels.reshape(*mask.shape, -1) / 255.0)[torch.from_numpy(mask)]
    torch.testing.assert_close(graphs[0].ndata["feat"].double(), expected, rtol=0, atol=1e-6)
    for graph in graphs:
        src, dst = graph.edges()
        pos, inside = graph.ndata["pos"], graph.label_map >= 0
        assert torch.equal(inside, torch.from_numpy(mask))
        assert pos.shape == (graph.num_nodes(), axes)
        assert torch.equal(graph.edata["offset"], pos[src] - pos[dst])
        assert torch.equal(graph.edata["distance"], graph.edata["offset"].norm(dim=1))
        assert paint(graph, graph.ndata["feat"]).shape == (*mask.shape, graph.ndata["feat"].shape[1])
    for graph in graphs[1:]:
        means = graph.ndata["feat"][:, : expected.shape[1]].double()
        sizes = graph.label_map[inside].bincount().double()
        torch.testing.assert_close(sizes @ means, expected.sum(0), rtol=1e-5, atol=1e-5)


def _as(container, array):
    if container == "torch":
        return torch.from_numpy(array)
    if container == "PIL":
        pil = pytest.importorskip("PIL.Image", reason="Pillow is not installed")
        return pil.fromarray(array.astype(np.uint8) if array.dtype == np.int64 else array)
    array = array.copy()
    array.flags.writeable = container != "read-only"
    return array


def test_outside_the_mask_anything_goes():
    image = np.where(MASK, COLOUR[..., 0], np.nan)
    labels = np.where(MASK, LABELS, -7)
    graph = graph_from_labels(image, labels, mask=MASK, features=sorted(set(FEATURES) - {"lab"}))
    assert graph.ndata["feat"].isfinite().all()
    assert torch.equal(graph.label_map, torch.from_numpy(np.where(MASK, LABELS, -1)))
    again = graph_from_labels(image, torch.from_numpy(labels), mask=torch.from_numpy(MASK))
    assert torch.equal(again.label_map, graph.label_map)


def test_paint_gives_the_image_back_and_means():
    graph = pixel_graph(COLOUR)
    assert torch.equal(paint(graph, graph.ndata["feat"]), torch.from_numpy(COLOUR).float())
    cut = pixel_graph(COLOUR, mask=MASK)
    painted = paint(cut, cut.ndata["feat"], outside=-1.0)
    assert torch.equal(painted, torch.from_numpy(np.where(MASK[..., None], COLOUR, -1)).float())
    superpixels = graph_from_labels(COLOUR, LABELS)
    image = paint(superpixels, superpixels.ndata["feat"])
    for label in range(6):
        here = torch.from_numpy(label == LABELS)
        torch.testing.assert_close(image[here].mean(0), torch.from_numpy(COLOUR[label == LABELS].mean(0)).float())
        assert (image[here] == image[here][0]).all()


def test_paint_batches_gradients_and_copies():
    batch = pixel_batch((3, 4), 2)
    x = torch.randn(24, 5, requires_grad=True)
    assert torch.equal(paint(batch, x), x.view(2, 3, 4, 5))
    paint(batch, x).sum().backward()
    assert x.grad.eq(1).all()
    graph = graph_from_labels(COLOUR, LABELS)
    values = torch.arange(6)
    for view in (graph.int(), graph.local_var(), graph.to("cpu")):
        assert torch.equal(paint(view, values), torch.from_numpy(LABELS))
    lost = dgl.batch([graph, graph])
    with pytest.raises(TypeError, match="expected one with a label map, got one that lost it"):
        paint(lost, torch.zeros(12))
    assert torch.equal(paint(graph.label_map, values), torch.from_numpy(LABELS))
    with pytest.raises(ValueError, match=r"values: expected 6 rows, one for each node, got shape \(5,\)"):
        paint(graph, torch.zeros(5))


@pytest.mark.parametrize("name", ["felzenszwalb", "quickshift", "watershed"])
def test_other_segmentations(name):
    segmentation = pytest.importorskip("skimage.segmentation", reason="scikit-image is not installed")
    smooth = ndimage.gaussian_filter(RNG.random((24, 20, 3)), (3, 3, 0))
    labels = {
        "felzenszwalb": lambda: segmentation.felzenszwalb(smooth, scale=0.1, min_size=8),
        "quickshift": lambda: segmentation.quickshift(smooth, kernel_size=2, max_dist=4),
        "watershed": lambda: segmentation.watershed(smooth[..., 0], markers=12),
    }[name]()
    graph = graph_from_labels(smooth, labels, k=3)
    assert graph.num_nodes() == len(np.unique(labels)) > 2
    assert np.array_equal(np.unique(labels, return_inverse=True)[1].reshape(24, 20), graph.label_map)


def test_segments_under_a_mask():
    pytest.importorskip("skimage", reason="scikit-image is not installed")
    disc = np.hypot(*(np.indices((20, 20)) - 9.5)) < 8
    image = np.where(disc, RNG.random((20, 20)), np.inf)
    labels = segment(image, 12, mask=disc)
    assert (labels[~disc] == -1).all()
    assert np.array_equal(np.unique(labels[disc]), np.arange(labels.max() + 1))
    graph = superpixel_graph(image, 12, mask=disc, features=["area"])
    assert np.array_equal(graph.label_map, labels)
    assert graph.ndata["feat"].sum() == disc.sum()
    one = np.zeros((20, 20), bool)
    one[9, 9] = True
    assert superpixel_graph(image, 1, mask=one).ndata["pos"].tolist() == [[9.0, 9.0]]
    with pytest.raises(ValueError, match="num_segments: expected 1 to 1 for 20 x 20 pixels under the mask, got 2"):
        superpixel_graph(np.zeros((20, 20)), 2, mask=one)


def test_volumes_are_segmented():
    pytest.importorskip("skimage", reason="scikit-image is not installed")
    volume = np.zeros((6, 6, 6))
    volume[:, :, 3:] = 1
    graph = superpixel_graph(volume, 8, axes=3, k=3)
    assert graph.num_nodes() == 8
    assert sorted(graph.ndata["feat"].flatten().tolist()) == [0.0] * 4 + [1.0] * 4
    assert {tuple(p) for p in graph.ndata["pos"].tolist()} == {
        (a, b, c) for a in (1, 4) for b in (1, 4) for c in (1, 4)
    }
    assert paint(graph, graph.ndata["feat"])[..., 0].tolist() == volume.tolist()


@pytest.mark.parametrize(
    ("mask", "error", "message"),
    [
        (np.ones((8, 7), bool), ValueError, r"mask: expected the image's shape \(7, 8\), got \(8, 7\)"),
        (np.zeros((7, 8), bool), ValueError, "mask: expected at least one pixel inside, got none of 56"),
        (np.ones((7, 8)), TypeError, "mask: expected booleans, got float64"),
    ],
)
@pytest.mark.parametrize(
    "call",
    [
        lambda mask: graph_from_labels(COLOUR, LABELS, mask=mask),
        lambda mask: superpixel_graph(COLOUR, 4, mask=mask),
        lambda mask: pixel_graph(COLOUR, mask=mask),
        lambda mask: pixel_graph((7, 8), mask=mask),
    ],
)
def test_bad_masks(call, mask, error, message):
    with pytest.raises(error, match=message):
        call(mask)


def test_axes_other_than_two_and_three():
    with pytest.raises(ValueError, match="axes: expected 2 or 3, got 1"):
        superpixel_graph(np.zeros(5), 2, axes=1)
