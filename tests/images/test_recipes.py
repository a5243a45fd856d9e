"""The recipes of the literature: against dense formulas, and the counts of nodes and edges they published."""

import math
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from scipy.spatial.distance import cdist

from gnnlib.datasets import mnist
from gnnlib.images import recipes, segments
from gnnlib.kernels.pieces import connected_pieces

pytest.importorskip("skimage", reason="scikit-image is not installed")

from skimage.segmentation import slic as skimage_slic
from skimage.util import regular_grid

ALL = [recipes.knyazev, recipes.dwivedi, recipes.dwivedi_cifar, recipes.monti, recipes.avelar]
ROW, COLUMN = np.indices((28, 28))
DIGIT = np.exp(-(((ROW + 0.5 * COLUMN - 20) / 4) ** 2)) * ((ROW > 3) & (ROW < 24))


def dense(graph):
    """A[v, u] of the edge u -> v."""
    src, dst = graph.edges()
    matrix = np.zeros((graph.num_nodes(), graph.num_nodes()))
    matrix[dst, src] = graph.edata["weight"]
    return matrix


def check_features(graph, image, *, place=True):
    """Means of the channels, then centres / 28, by loops over the label map; returns the centres / 28."""
    label_map = graph.label_map.numpy()
    means = [image[label_map == i].mean(0) for i in range(graph.num_nodes())]
    centres = np.stack([np.argwhere(label_map == i).mean(0) for i in range(graph.num_nodes())]) / 28
    expected = np.concatenate([np.reshape(means, (len(means), -1)), centres[:, : 2 * place]], axis=1)
    np.testing.assert_allclose(graph.ndata["feat"], expected, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(graph.ndata["pos"], centres * 28, rtol=1e-5, atol=1e-6)
    return centres


def test_knyazev():
    graph = recipes.knyazev(DIGIT)
    distance = cdist(*[check_features(graph, DIGIT)] * 2)
    expected = np.exp(-distance / (0.1 * math.pi) ** 2)
    np.fill_diagonal(expected, 0)
    np.testing.assert_allclose(dense(graph), expected, rtol=1e-5)
    assert 40 < graph.num_nodes() <= 75
    assert graph.num_edges() == graph.num_nodes() * (graph.num_nodes() - 1)


@pytest.mark.parametrize(("recipe", "channels"), [(recipes.dwivedi, 1), (recipes.dwivedi_cifar, 3)])
def test_dwivedi(recipe, channels):
    image = np.dstack([DIGIT] * channels)
    graph = recipe(image)
    distance = cdist(*[check_features(graph, image)] * 2)
    sigma = np.partition(distance, 8)[:, :9].sum(1, keepdims=True) / 8 + 1e-8
    similar = np.exp(-((distance / sigma) ** 2))
    similar = (similar + similar.T) / 2
    np.fill_diagonal(similar, 0)
    got = dense(graph)
    src, dst = (end.numpy() for end in graph.edges())
    np.testing.assert_allclose(got[dst, src], similar[src, dst], rtol=1e-4)
    assert graph.out_degrees().eq(8).all()
    assert graph.in_degrees().unique().numel() > 1
    for i in range(graph.num_nodes()):
        left_out = np.delete(similar[i], [i, *dst[src == i]])
        assert similar[i][dst[src == i]].min() >= left_out.max() - 1e-9


def test_monti():
    graph = recipes.monti(DIGIT)
    check_features(graph, DIGIT, place=False)
    assert (graph.num_nodes(), graph.num_edges()) == (75, 1350)
    assert graph.in_degrees().eq(18).all()


def test_avelar():
    graph = recipes.avelar(DIGIT)
    check_features(graph, DIGIT)
    label_map = graph.label_map.numpy()
    expected = np.eye(graph.num_nodes())
    for a, b in ((label_map[1:], label_map[:-1]), (label_map[:, 1:], label_map[:, :-1])):
        expected[a, b] = expected[b, a] = 1
    assert np.array_equal(dense(graph), expected)


def test_max_segments_with_one_clustering_per_grid(monkeypatch):
    calls = []
    cluster = segments.SLIC._cluster

    def counted(self, colour, num):
        calls.append(num)
        return cluster(self, colour, num)

    monkeypatch.setattr(segments.SLIC, "_cluster", counted)
    for max_segments in (75, 60, 30, 1):
        calls.clear()
        labels = segments.SLIC(95, max_segments=max_segments, compactness=0.25)(DIGIT[..., None])
        assert len(np.unique(labels)) <= max_segments
        assert calls[0] == 95
        assert len({str(regular_grid((28, 28), num)) for num in calls}) == len(calls)


def reference_slic(slic, values, num):
    """Superpixels in one call, with the limits of 2018: an independent reference for what follows the clusters."""
    pixels = math.prod(values.shape[:-1])
    seeds = np.zeros(values.shape[:-1])[regular_grid(values.shape[:-1], num)].size
    factors = [
        0.5 * seeds / num * (1 + 1e-12),
        3 * seeds / num * (1 + 1e-12),
    ]  # of pixels / seeds, then cut off
    assert [int(factor * (pixels / seeds)) for factor in factors] == [
        pixels // (2 * num),
        3 * pixels // num,
    ]
    return skimage_slic(
        values,
        n_segments=num,
        compactness=slic.compactness / (np.ptp(values) or 1),
        slic_zero=slic.slic_zero,
        convert2lab=False,
        min_size_factor=factors[0],
        max_size_factor=factors[1],
        start_label=0,
    )


@pytest.mark.parametrize("shape", [(1, 1), (2, 40), (28, 28), (23, 31), (4, 9, 8), (1, 1, 5)])
@pytest.mark.parametrize("zero", [False, True])
def test_the_same_superpixels_as_one_call_of_scikit_image(shape, zero):
    random = np.random.default_rng(0)
    for values in (np.zeros(shape), random.random(shape), random.random(shape) ** 6, np.round(random.random(shape))):
        for num in (60, 17, 3, 1):
            slic, num = (
                segments.SLIC(num, compactness=0.25, slic_zero=zero),
                min(num, math.prod(shape)),
            )
            assert np.array_equal(slic(values[..., None]), reference_slic(slic, values[..., None], num))


@given(st.integers(0, 2**32 - 1), st.integers(2, 3), st.integers(1, 5))
@settings(max_examples=50)
def test_pieces_are_the_connected_components(seed, axes, regions):
    """Without limits: each label's components, as scipy finds them, numbered by their first pixels."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, regions, random.integers(1, 8, axes))
    pieces, count = connected_pieces(labels, 1, labels.size + 1)
    assert len(np.unique(pieces)) == count == sum(ndimage.label(labels == i)[1] for i in range(regions))
    assert len(np.unique(labels * count + pieces)) == count
    assert (np.diff(np.unique(pieces, return_index=True)[1]) > 0).all()


def test_the_image_is_not_stretched():
    """As in 2018, a faint image is cut by place; scikit-image now stretches it to 0..1 first."""
    slic = segments.SLIC(49, compactness=0.25)
    faint = len(np.unique(slic(DIGIT[..., None] * 1e-3)))
    assert faint == 49
    assert not np.array_equal(slic(DIGIT[..., None]), slic(DIGIT[..., None] * 1e-3))


@pytest.mark.parametrize("recipe", ALL)
@pytest.mark.parametrize("shape", [(1, 1), (1, 2), (3, 3), (2, 40), (5, 6, 3), (4, 4, 2)])
def test_awkward_images(recipe, shape):
    for image in (np.zeros(shape), np.ones(shape), np.random.default_rng(0).random(shape)):
        graph = recipe(image)
        assert 1 <= graph.num_nodes() <= shape[0] * shape[1]
        assert graph.ndata["feat"].isfinite().all()
        assert graph.edata["weight"].isfinite().all()


@pytest.mark.parametrize("recipe", ALL)
def test_bad_images(recipe):
    with pytest.raises(ValueError, match="image: expected finite values, got nan"):
        recipe(np.full((4, 4), np.nan))
    with pytest.raises(ValueError, match=r"image: expected at least one pixel and channel, got shape \(0, 4\)"):
        recipe(np.zeros((0, 4)))
    with pytest.raises(TypeError, match="image: expected uint8, uint16 or floating point, got int64"):
        recipe(np.zeros((4, 4), int))


def test_bad_slic():
    with pytest.raises(ValueError, match="max_segments: expected None or at least 1, got 0"):
        segments.SLIC(75, max_segments=0)
    with pytest.raises(ValueError, match="num_segments: expected at least 1, got 0"):
        segments.SLIC(0)
    with pytest.raises(ValueError, match="SLIC: expected a positive compactness, got 0"):
        segments.SLIC(75, compactness=0.0)


def test_max_segments_equals_the_full_loop():
    """Skipping what gives the same superpixels changes nothing, also where grids of one size start elsewhere."""
    for shape in ((28, 28), (31, 17), (12, 45)):
        image = np.random.default_rng(3).random((*shape, 1)) ** 8
        for max_segments in (40, 20, 6):
            labels = segments.SLIC(60, max_segments=max_segments, compactness=0.25)(image)
            for num in range(60, 0, -1):
                expected = segments.SLIC(num, compactness=0.25)(image)
                if len(np.unique(expected)) <= max_segments:
                    break
            assert np.array_equal(labels, expected)


@pytest.mark.parametrize("recipe", ALL)
def test_arrays_from_another_process(recipe):
    sent = pickle.loads(pickle.dumps(recipe))
    assert sent == recipe
    assert repr(sent) == repr(recipe)
    arrays, graph = sent.arrays(DIGIT), recipe(DIGIT)
    for name in ("feat", "pos"):
        assert torch.equal(torch.from_numpy(arrays[name]), graph.ndata[name])
    for name, end in zip(("src", "dst"), graph.edges()):
        assert torch.equal(torch.from_numpy(arrays[name]), end)


def test_published_counts_on_mnist(data_dir):
    """70.6 nodes and 564.5 edges on average (Dwivedi et al., 2020); on all 70000 images
    we find 70.568 and 564.54, on the first 500 for testing the following, where the plain call gives 64.94 nodes."""
    if not (data_dir / "mnist").is_dir():
        pytest.skip(f"no real data: {data_dir} has no mnist")
    images = mnist(data_dir, train=False)[0][:500]
    graphs = [recipes.dwivedi.arrays(image) for image in images]
    nodes = [len(graph["feat"]) for graph in graphs]
    assert np.mean(nodes) == pytest.approx(70.1, abs=0.1)
    assert np.mean([len(graph["src"]) for graph in graphs]) == pytest.approx(8 * np.mean(nodes))
    assert max(nodes) == 75
