"""Fixed filters are scipy's, and what the graph's matrices say they are."""

import numpy as np
import pytest
import scipy.ndimage
import scipy.signal
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gnnlib import GCNConv
from gnnlib.grid import lattice, matrix, to_images, to_nodes
from gnnlib.grid.filters import EDGES, LAPLACIAN, MEAN, fixed, gabor, gaussian
from gnnlib.images import gaussian_graph, pixel_graph

KERNELS = {
    "mean": MEAN,
    "edges": EDGES,
    "laplacian": LAPLACIAN,
    "gaussian": gaussian(0.8),
    "gabor": gabor(7, wavelength=4, angle=0.5, aspect=0.5, phase=1.0),
}


def apply(kernel, image, padding="same", dense=True):
    """By the layer on a lattice: an image (rows, columns) of float64."""
    conv, x = fixed(kernel, dtype=torch.float64), torch.as_tensor(image)
    conv.dense = dense
    graph = lattice(x.shape, conv.kernel_size, padding=padding)
    side = [int(n) for n in graph.dstdata["pos"].amax(0) - graph.dstdata["pos"].amin(0) + 1]
    return conv(graph, x.reshape(-1, 1)).view(side).numpy()


@pytest.mark.parametrize("dense", [True, False], ids=["dense", "graph"])
@pytest.mark.parametrize("name", KERNELS)
def test_against_scipy_correlate(name, dense):
    image, kernel = np.random.default_rng(0).normal(size=(13, 17)), np.asarray(KERNELS[name])
    same, valid = apply(kernel, image, dense=dense), apply(kernel, image, "valid", dense)
    np.testing.assert_allclose(same, scipy.ndimage.correlate(image, kernel, mode="constant"), atol=1e-12)
    np.testing.assert_allclose(valid, scipy.signal.correlate2d(image, kernel, "valid"), atol=1e-12)
    flipped = apply(np.flip(kernel).copy(), image, dense=dense)
    np.testing.assert_allclose(flipped, scipy.ndimage.convolve(image, kernel, mode="constant"), atol=1e-12)


@given(sigma=st.floats(0.3, 2.5), axes=st.integers(1, 3))
@settings(max_examples=15, deadline=None)
def test_gaussian_is_scipys(sigma, axes):
    size = (15, 12, 9)[:axes]
    image = np.random.default_rng(1).normal(size=size)
    conv = fixed(gaussian(sigma, axes=axes), dtype=torch.float64)
    ours = conv(lattice(size, conv.kernel_size, padding="same"), torch.from_numpy(image).view(-1, 1)).view(size)
    np.testing.assert_allclose(ours, scipy.ndimage.gaussian_filter(image, sigma, mode="constant"), atol=1e-12)


def test_two_gaussians_are_one_whose_variance_is_their_sum():
    twice = scipy.signal.convolve2d(gaussian(1.5, 21), gaussian(2.0, 21))
    np.testing.assert_allclose(twice, gaussian(2.5, 41), atol=1e-4)


@pytest.mark.parametrize("angle", [0.0, 0.4, 1.5, 3.0])
@pytest.mark.parametrize("aspect", [0.5, 1.0])
def test_gabor_is_scikit_images(angle, aspect):
    filters = pytest.importorskip("skimage.filters")
    sigma, wavelength, phase = 2.0, 5.0, 0.7
    theirs = filters.gabor_kernel(
        1 / wavelength, angle, sigma_x=sigma, sigma_y=sigma / aspect, n_stds=6, offset=phase
    ).real * (2 * np.pi * sigma**2 / aspect)
    rows, columns = (np.array(theirs.shape) - 9) // 2
    crop = theirs[rows : rows + 9, columns : columns + 9]
    np.testing.assert_allclose(gabor(9, wavelength, angle, sigma, aspect, phase), crop, atol=1e-12)


def test_gabor_turns_with_its_angle():
    turned = gabor(9, 4, 0.3 + np.pi / 2, 2.0, 0.7, 0.5)
    np.testing.assert_allclose(turned, torch.rot90(gabor(9, 4, 0.3, 2.0, 0.7, 0.5), -1), atol=1e-12)


def test_gabor_answers_to_stripes_across_its_angle():
    stripes = np.cos(2 * np.pi * np.arange(20) / 4) * np.ones((20, 1))
    along, across = (np.abs(apply(gabor(9, 4, angle), stripes, "valid")).max() for angle in (0.0, np.pi / 2))
    assert along > 50 * across


def test_the_laplacian_is_minus_the_graph_laplacian_of_the_four_neighbour_grid():
    size = 9, 7
    graph = pixel_graph(size, connectivity=1, self_loops=False)
    adjacency = graph.adj_external(scipy_fmt="csr").toarray()
    laplacian = np.diag(adjacency.sum(1)) - adjacency
    ours = matrix(lattice(size, 3, padding=1), np.array(LAPLACIAN)).toarray()
    interior = graph.in_degrees().numpy() == 4
    assert interior.sum() == 7 * 5
    np.testing.assert_array_equal(ours[interior], -laplacian[interior])
    border = ~interior  # outside are zeros, whose difference from the cell counts
    np.testing.assert_array_equal((ours + laplacian)[border].sum(1), adjacency[border].sum(1) - 4)


def test_the_edge_detector_sees_no_even_image_and_changes_sign_when_turned_by_half():
    image = np.random.default_rng(2).normal(size=(8, 8))
    np.testing.assert_array_equal(apply(EDGES, np.full((8, 8), 3.0), "valid"), np.zeros((6, 6)))
    np.testing.assert_allclose(apply(EDGES, np.rot90(image, 2).copy()), -np.rot90(apply(EDGES, image), 2), atol=1e-12)


def test_channels_are_independent():
    images = torch.randn(2, 3, 8, 9)
    conv, graph = fixed(LAPLACIAN, channels=3), lattice((8, 9), 3, padding="same")
    one = fixed(LAPLACIAN)
    alone = torch.cat([to_images(one(graph, to_nodes(images[:, [c]])), (8, 9)) for c in range(3)], 1)
    torch.testing.assert_close(to_images(conv(graph, to_nodes(images)), (8, 9)), alone)


def test_a_fixed_filter_does_not_learn_and_is_no_view_of_its_kernel():
    kernel = gaussian(1.0).float()
    conv = fixed(kernel, channels=2)
    assert not any(p.requires_grad for p in conv.parameters())
    assert conv.bias is None
    kernel.zero_()
    assert conv.weight.sum() == pytest.approx(2)
    assert fixed(MEAN, dtype=torch.float64).weight.dtype == torch.float64
    assert list(conv.state_dict()) == ["weight"]


SIZE, SIGMA, CUTOFF = (12, 14), 1.2, 0.1


def blur_and_adjacency(norm):
    """An image blurred by what a Gaussian with this cut-off is on pixels, and by graph convolution."""
    pos = pixel_graph(SIZE).ndata["pos"].double()
    graph = gaussian_graph(pos, SIGMA, CUTOFF, norm=norm)
    raw = gaussian(SIGMA, 9) / gaussian(SIGMA, 9).max()
    kernel = raw * (raw >= CUTOFF)
    x = torch.randn(len(pos), 1, dtype=torch.float64)
    conv = GCNConv(1, 1, norm="none", weight=False, bias=False)
    near = int((kernel[4] > 0).sum()) // 2
    return apply(kernel, x.view(SIZE)), conv(graph, x, graph.edata["weight"]).view(SIZE).numpy(), kernel.sum(), near


def test_a_gaussian_adjacency_is_a_fixed_blur():
    blurred, convolved, _, _ = blur_and_adjacency("none")
    np.testing.assert_allclose(convolved, blurred, atol=1e-12)


def test_a_gaussian_adjacency_of_all_pairs_is_a_blur_by_a_window_as_large():
    pos = pixel_graph((6, 6)).ndata["pos"].double()
    graph, kernel = gaussian_graph(pos, SIGMA), gaussian(SIGMA, 11)
    ours = matrix(lattice((6, 6), 11, padding=5), kernel / kernel.max()).toarray()
    dense = graph.edata["weight"].view(36, 36)
    np.testing.assert_allclose(dense, ours, atol=1e-12)


def test_with_kipfs_normalisation_it_is_one_in_the_interior_only():
    blurred, convolved, total, near = blur_and_adjacency("both")
    inside = (slice(2 * near, -2 * near),) * 2  # neighbours' degrees count too
    np.testing.assert_allclose(convolved[inside], blurred[inside] / float(total), atol=1e-12)
    assert np.abs(convolved - blurred / float(total))[0].max() > 0.01


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: fixed(1.0), "expected a kernel_size with an axis or more, got"),
        (lambda: fixed([[], []]), "expected kernel_size >= 1, got 0"),
        (lambda: fixed(MEAN, channels=0), "got 0"),
        (lambda: gaussian(0.0), "expected a positive number, got 0.0"),
        (lambda: gaussian(1.0, 0), "positive size and axes, got 0 and 2"),
        (lambda: gabor(5, -1.0), "wavelength: expected a positive number, got -1.0"),
        (lambda: gabor(5, 1.0, aspect=float("nan")), "aspect: expected a positive number, got nan"),
    ],
)
def test_bad_input(make, message):
    with pytest.raises(ValueError, match=message):
        make()
