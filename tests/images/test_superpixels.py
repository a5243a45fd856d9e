"""Superpixel graphs: by hand on tiny label maps, against brute force on drawn ones."""

import inspect
import sys

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist

from gnnlib.images import (
    graph_from_labels,
    label_arrays,
    recipes,
    segment,
    superpixel_arrays,
    superpixel_graph,
)
from gnnlib.images._image import Pixels


@pytest.fixture
def image():
    """A bright slanted stroke with soft edges on black, like a digit."""
    row, column = np.indices((28, 28))
    return np.exp(-(((row + 0.5 * column - 20) / 4) ** 2)) * ((row > 3) & (row < 24))


@pytest.fixture
def labels():
    return np.random.default_rng(0).integers(0, 12, (9, 7))


def same(a, b):
    return all(np.array_equal(a[name], b[name]) for name in a)


def test_means_centroids_and_weights_by_hand():
    image = np.array([[0, 51, 255], [0, 51, 255]], np.uint8)
    labels = np.array([[4, 4, 9], [4, 6, 9]])  # gaps are closed: 4, 6, 9 -> 0, 1, 2
    graph = graph_from_labels(image, labels, k=1)
    assert graph.ndata["feat"].tolist() == pytest.approx(np.array([[17 / 255], [0.2], [1.0]]))
    assert graph.ndata["pos"].tolist() == pytest.approx(np.array([[1 / 3, 1 / 3], [1, 1], [0.5, 2]]))
    src, dst = graph.edges()
    assert (src.tolist(), dst.tolist()) == ([1, 0, 1], [0, 1, 2])
    assert graph.edata["weight"].tolist() == pytest.approx(
        [np.exp(-1)] * 3
    )  # with one neighbour, sigma is its distance
    assert graph.edata["offset"][2].tolist() == [0.5, -1.0]

    wide = graph_from_labels(image, labels, k=2, sigma=2.0)
    squared = wide.edata["offset"].square().sum(1)
    assert wide.num_edges() == 6
    torch.testing.assert_close(wide.edata["weight"], torch.exp(-squared / 4))


@pytest.mark.parametrize("channels", [(), (1,), (3,), (5,)])
def test_features_are_the_means_of_the_regions(labels, channels):
    image = np.random.default_rng(1).random((9, 7, *channels))
    feat = graph_from_labels(image, labels).ndata["feat"]
    expected = np.stack([image[labels == label].mean(0) for label in range(12)]).reshape(12, -1)
    np.testing.assert_allclose(feat, expected, rtol=1e-6)


@pytest.mark.parametrize("k", [1, 3, 11, 50])
def test_neighbours_and_weights_against_brute_force(labels, k):
    arrays = label_arrays(np.zeros((9, 7)), labels, k)
    pos = np.stack([np.argwhere(labels == label).mean(0) for label in range(12)])
    distance = cdist(pos, pos)
    np.fill_diagonal(distance, np.inf)
    k = min(k, 11)
    order = np.argsort(distance, axis=1, kind="stable")[:, :k]
    near = np.take_along_axis(distance, order, 1)
    assert np.array_equal(arrays["dst"], np.repeat(np.arange(12), k))
    np.testing.assert_allclose(distance[arrays["dst"], arrays["src"]].reshape(12, k), near, rtol=1e-12)
    expected = np.exp(-((near / near.mean(1, keepdims=True)) ** 2))
    np.testing.assert_allclose(arrays["weight"], expected.ravel(), rtol=1e-6)


def test_offset_points_to_the_source(image):
    graph = superpixel_graph(image)
    src, dst = graph.edges()
    pos = graph.ndata["pos"]
    assert torch.equal(graph.edata["offset"], pos[src] - pos[dst])
    assert graph.in_degrees().eq(8).all()
    assert (src != dst).all()
    *_, eid = graph.adj_tensors("csc")
    assert torch.equal(eid, torch.arange(len(eid)))


def test_regions_that_share_a_centroid():
    labels = np.array([[0, 0, 0], [0, 1, 0], [0, 0, 0]])  # a ring and its hole
    graph = graph_from_labels(np.zeros((3, 3)), labels)
    assert [end.tolist() for end in graph.edges()] == [[1, 0], [0, 1]]
    assert graph.edata["weight"].tolist() == [1.0, 1.0]


def test_many_twins_never_give_self_loops():
    labels = np.array([[0, 1, 2, 3, 3, 2, 1, 0]])  # four regions, one centroid
    for k in (1, 2, 3):
        arrays = label_arrays(np.zeros((1, 8)), labels, k)
        assert (arrays["src"] != arrays["dst"]).all()
        assert len(arrays["src"]) == 4 * k


def test_volumes_come_free():
    labels = np.arange(8).reshape(2, 2, 2)
    graph = graph_from_labels(np.zeros((2, 2, 2)), labels, k=3)
    assert graph.ndata["pos"].tolist() == np.argwhere(labels >= 0).tolist()
    assert graph.edata["offset"].abs().sum(1).eq(1).all()


def test_the_same_image_gives_the_same_graph(image):
    first = superpixel_arrays(image)
    assert same(first, superpixel_arrays(image))
    assert same(first, superpixel_arrays(torch.from_numpy(image)))
    assert same(first, superpixel_arrays(image[..., None]))
    assert same(first, superpixel_arrays(np.asfortranarray(image)))
    assert same(first, superpixel_arrays(torch.from_numpy(image).requires_grad_()))
    levels = (image * 255).round().astype(np.uint8)
    assert same(superpixel_arrays(levels), superpixel_arrays(levels / 255))


def test_arrays_and_graph_agree(image):
    arrays, graph = superpixel_arrays(image, 50, 4), superpixel_graph(image, 50, 4)
    src, dst = graph.edges()
    got = {"src": src, "dst": dst, "weight": graph.edata["weight"]} | dict(graph.ndata)
    assert same(arrays, {name: value.numpy() for name, value in got.items()})
    assert {name: value.dtype.name for name, value in arrays.items()} == {
        "src": "int64",
        "dst": "int64",
        "feat": "float32",
        "pos": "float32",
        "weight": "float32",
    }


def test_input_is_not_modified(image):
    before = image.copy()
    superpixel_graph(image)
    assert np.array_equal(image, before)


def test_transposed_image_with_transposed_labels(image):
    labels = segment(image)
    graph, turned = graph_from_labels(image, labels), graph_from_labels(image.T, labels.T)
    torch.testing.assert_close(turned.ndata["pos"], graph.ndata["pos"].flip(1))
    torch.testing.assert_close(turned.ndata["feat"], graph.ndata["feat"])
    torch.testing.assert_close(
        turned.edata["weight"].view(-1, 8).sort().values, graph.edata["weight"].view(-1, 8).sort().values
    )


def test_segments_are_numbered_without_gaps_and_follow_the_stroke(image):
    labels = segment(image, 75)
    assert labels.shape == (28, 28)
    assert np.array_equal(np.unique(labels), np.arange(labels.max() + 1))
    assert 50 <= labels.max() + 1 <= 90
    painted = superpixel_graph(image).ndata["feat"].numpy()[labels][..., 0]
    squares = graph_from_labels(image, segment(image, 75, 1e6)).ndata["feat"].numpy()
    squares = squares[segment(image, 75, 1e6)][..., 0]
    assert ((painted - image) ** 2).mean() < ((squares - image) ** 2).mean()


def test_colour_uses_lab_and_default_compactness():
    colour = np.random.default_rng(0).random((16, 16, 3))
    assert np.array_equal(segment(colour, 16), segment(colour, 16, 10.0))
    two = colour[..., :2]
    assert np.array_equal(segment(two, 16), segment(two, 16, 0.25))
    assert superpixel_graph(colour, 16).ndata["feat"].shape[1] == 3


def test_degenerate_images():
    one = superpixel_graph(np.zeros((1, 1)), num_segments=1)
    assert (one.num_nodes(), one.num_edges()) == (1, 0)
    assert one.edata["offset"].shape == (0, 2)
    single = superpixel_graph(np.ones((5, 4), np.float32), num_segments=1)
    assert single.ndata["pos"].tolist() == [[2.0, 1.5]]
    assert single.num_edges() == 0
    constant = superpixel_graph(np.full((8, 8), 7.0), num_segments=16)
    assert 12 <= constant.num_nodes() <= 16
    assert constant.ndata["feat"].eq(7).all()
    pixelwise = superpixel_graph(np.random.default_rng(0).random((5, 5)), num_segments=25)
    assert pixelwise.num_nodes() == 25
    row = superpixel_graph(torch.rand(1, 9), num_segments=3, k=1)
    assert row.ndata["pos"][:, 0].eq(0).all()


@pytest.mark.parametrize("dtype", [np.uint8, np.float16, np.float32, np.float64, torch.bfloat16, torch.uint8])
def test_dtypes(dtype):
    ones = torch.ones(6, 6, dtype=dtype) if isinstance(dtype, torch.dtype) else np.ones((6, 6), dtype)
    expected = 1 / 255 if dtype in (np.uint8, torch.uint8) else 1.0
    assert superpixel_graph(ones, 4).ndata["feat"].tolist() == pytest.approx(np.full((4, 1), expected))


GREY, MAP = np.zeros((4, 4)), np.zeros((4, 4), int)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: superpixel_graph(np.zeros(4)), r"image: expected 2 axes, or 3 .* got shape \(4,\)"),
        (lambda: superpixel_graph(np.zeros((1, 2, 3, 4))), r"image: .* got shape \(1, 2, 3, 4\)"),
        (lambda: superpixel_graph(np.zeros((0, 4))), r"image: expected at least one pixel .* got shape \(0, 4\)"),
        (lambda: superpixel_graph(np.zeros((4, 4, 0))), r"image: expected at least one pixel and channel"),
        (lambda: superpixel_graph(np.full((4, 4), np.nan), 4), "image: expected finite values, got nan"),
        (lambda: superpixel_graph(torch.full((4, 4), -float("inf")), 4), "image: expected finite values, got -inf"),
        (lambda: superpixel_graph(GREY, 0), "num_segments: expected 1 to 16 for 4 x 4 pixels, got 0"),
        (lambda: superpixel_graph(GREY, 17), "num_segments: .* got 17"),
        (lambda: superpixel_graph(GREY, 4, k=0), "k: expected at least 1, got 0"),
        (lambda: superpixel_graph(GREY, 4, compactness=0.0), "compactness: expected a positive number, got 0.0"),
        (lambda: superpixel_graph(GREY, 4, sigma=-1.0), "sigma: expected None or a positive number, got -1.0"),
        (lambda: graph_from_labels(GREY, MAP.T[:3]), r"labels: expected the image's shape \(4, 4\), .* got \(3, 4\)"),
        (lambda: graph_from_labels(GREY, MAP - 1), "labels: expected integers from 0, got -1"),
        (lambda: graph_from_labels(GREY, np.zeros((4, 4, 4), int)), r"labels: .* \(4, 4\), .* got \(4, 4, 4\)"),
        (
            lambda: superpixel_graph(np.diag([0, 0, np.inf, 0]), 4),
            r"image: expected finite values, got inf at pixel \(2, 2\)",
        ),
    ],
)
def test_bad_values(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: superpixel_graph(MAP), "image: expected uint8, uint16 or floating point, got int64"),
        (lambda: graph_from_labels(GREY, GREY), "labels: expected integers, got float64"),
        (lambda: superpixel_graph(GREY, 4.5), "num_segments: expected an integer, got 4.5"),
        (lambda: superpixel_graph(GREY, 4, k=2.5), "k: expected an integer, got 2.5"),
        (lambda: superpixel_graph(GREY, 4, edges="touching"), r"edges: expected .*Touching\(\), got 'touching'"),
    ],
)
def test_bad_types(call, message):
    with pytest.raises(TypeError, match=message):
        call()


def test_without_scikit_image(monkeypatch):
    monkeypatch.setitem(sys.modules, "skimage.segmentation", None)
    with pytest.raises(ImportError, match=r"pip install 'gnnlib\[images\]'"):
        superpixel_graph(GREY, 4)
    assert graph_from_labels(GREY, MAP).num_nodes() == 1  # one's own labels need no scikit-image


@pytest.mark.parametrize("build", [superpixel_graph, superpixel_arrays, recipes.dwivedi, recipes.dwivedi.arrays])
def test_images_are_validated_once(build, image, monkeypatch):
    pytest.importorskip("skimage", reason="scikit-image is not installed")
    validated = []
    parse_image = inspect.unwrap(superpixel_graph).__globals__["parse_image"]
    monkeypatch.setitem(parse_image.__globals__, "Pixels", lambda *fields: validated.append(fields) or Pixels(*fields))
    build(image)
    assert len(validated) == 1
