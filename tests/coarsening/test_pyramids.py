"""Pyramids come back exactly, keep energy, and are the textbook's: Haar's matrix, Burt and Adelson's window."""

import pytest
import torch
import torch.nn.functional as F

from gnnlib._platform.dgl import dgl
from gnnlib.coarsening.clusters import coarsen, graclus, voxel
from gnnlib.coarsening.pyramids import haar_pyramid, laplacian_pyramid
from gnnlib.grid import lattice, to_images, to_nodes
from gnnlib.images import pixel_graph
from gnnlib.testing.graphs import clique, random_graph


def grids(size, kernel=2):
    """Windows side by side, down to one cell."""
    graphs = []
    while max(size) > 1:
        graphs.append(lattice(size, kernel, stride=kernel, ceil_mode=True))
        size = tuple(-(-n // kernel) for n in size)
    return graphs


def clusters(seed=0, nodes=40):
    """Random clusters of random areas, two levels, and pairs above them."""
    torch.manual_seed(seed)
    graph, graphs = random_graph(nodes, 4 * nodes, seed), []
    graph.ndata["area"] = torch.rand(nodes, dtype=torch.float64) + 0.01
    for upto in (15, 6):
        graphs.append(coarsen(graph, torch.randint(upto, (graph.num_nodes(),))))
        graph = graphs[-1].graph
    graphs.append(coarsen(graph, graclus(graph)))
    return [level.pool for level in graphs]


def batched():
    graphs = [pixel_graph((5, 3)), pixel_graph((4, 4)), dgl.graph([], num_nodes=0)]
    graphs[2].ndata["pos"] = torch.zeros(0, 2)
    batch = dgl.batch([dgl.graph(g.edges(), num_nodes=g.num_nodes()) for g in graphs])
    batch.ndata["pos"] = torch.cat([g.ndata["pos"] for g in graphs])
    first = coarsen(batch, voxel(batch, 2))
    return [first.pool, coarsen(first.graph, voxel(first.graph, 4)).pool]


def gaussian(graphs):
    tap = torch.tensor([1.0, 4.0, 6.0, 4.0, 1.0], dtype=torch.float64) / 16
    kernel = torch.outer(tap, tap).flatten()
    return [kernel[graph.edata["tap"]] for graph in graphs]


LEVELS = {
    "even": lambda: grids((8, 8)),
    "odd": lambda: grids((7, 10)),
    "threes": lambda: grids((5, 4, 7), 3),
    "line": lambda: grids((16,)),
    "clusters": clusters,
    "batch": batched,
    "none": list,
}
SMOOTH = [lattice((9, 12), 5, stride=2, padding=2), lattice((5, 6), 5, stride=2, padding=2)]


def signal(graphs, axes=(2, 3)):
    torch.manual_seed(1)
    return torch.randn(graphs[0].num_src_nodes() if graphs else 5, *axes, dtype=torch.float64)


def top(graphs, area):
    """The areas of the coarsest nodes."""
    for graph in graphs:
        area = torch.zeros(graph.num_dst_nodes(), dtype=area.dtype).index_add(0, graph.edges()[1].long(), area)
    return area


@pytest.mark.parametrize("kind", [haar_pyramid, laplacian_pyramid])
@pytest.mark.parametrize("axes", [(3,), (2, 3)])
@pytest.mark.parametrize("name", LEVELS)
def test_split_and_merge_are_inverse(name, axes, kind):
    graphs = LEVELS[name]()
    pyramid, x = kind(graphs), signal(graphs, axes)
    low, details = pyramid.split(x)
    assert low.shape == (graphs[-1].num_dst_nodes() if graphs else 5, *axes)
    torch.testing.assert_close(pyramid.join(low, details), x, rtol=0, atol=1e-12)
    narrow = pyramid.join(*pyramid.split(x.float()))
    torch.testing.assert_close(narrow, x.float(), rtol=0, atol=1e-5)


def test_a_smooth_laplacian_pyramid_comes_back():
    pyramid, x = laplacian_pyramid(SMOOTH, gaussian(SMOOTH)), signal(SMOOTH)
    torch.testing.assert_close(pyramid.join(*pyramid.split(x)), x, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", [name for name in LEVELS if name != "none"])
def test_haar_keeps_numbers_and_energy(name):
    graphs = LEVELS[name]()
    area = torch.rand(graphs[0].num_src_nodes(), dtype=torch.float64) + 0.1
    x = signal(graphs)
    low, details = haar_pyramid(graphs, area).split(x)
    assert len(low) + sum(map(len, details)) == len(x)
    energy = (top(graphs, area) @ low.flatten(1).square()) + sum(
        detail.flatten(1).square().sum(0) for detail in details
    )
    torch.testing.assert_close(energy, area @ x.flatten(1).square(), rtol=1e-12, atol=0)


@pytest.mark.parametrize("name", ["odd", "clusters"])
def test_haar_is_an_orthonormal_basis(name):
    graphs = LEVELS[name]()
    nodes = graphs[0].num_src_nodes()
    area = graphs[0].srcdata.get("area", torch.ones(nodes, dtype=torch.float64))
    low, details = haar_pyramid(graphs).split((1 / area.sqrt()).diag())
    rows = torch.cat([top(graphs, area).sqrt().view(-1, 1) * low, *details])
    torch.testing.assert_close(rows @ rows.T, torch.eye(nodes, dtype=torch.float64), rtol=0, atol=1e-12)


@pytest.mark.parametrize("size", [1, 2, 4, 16])
def test_one_cluster_is_haars_matrix(size):
    """H_2n is H_n of the sums over the differences."""
    haar = torch.ones(1, 1, dtype=torch.float64)
    while len(haar) < size:
        sums, differences = torch.tensor([[1.0, 1.0]]), torch.tensor([[-1.0, 1.0]])
        eye = torch.eye(len(haar), dtype=torch.float64)
        haar = torch.cat([torch.kron(haar, sums), torch.kron(eye, differences)]) / 2**0.5
    pool = coarsen(clique(size), torch.zeros(size, dtype=torch.int64)).pool
    low, (detail,) = haar_pyramid([pool]).split(torch.eye(size, dtype=torch.float64))
    torch.testing.assert_close(low * size**0.5, haar[:1])
    levels = haar[1:].split([1 << i for i in range(size.bit_length() - 1)]) if size > 1 else [haar[1:]]
    torch.testing.assert_close(detail, torch.cat(levels[::-1]))  # the finest first


@pytest.mark.parametrize("size", [3, 5, 6, 7])
def test_clusters_of_other_sizes_compare_halves_by_their_means(size):
    torch.manual_seed(size)
    area, x = torch.rand(size, dtype=torch.float64) + 0.1, torch.randn(size, 1, dtype=torch.float64)
    expected, width = [], 1
    while width < size:
        for first in range(0, size - width, 2 * width):
            front, back = slice(first, first + width), slice(first + width, first + 2 * width)
            a, b = area[front].sum(), area[back].sum()
            means = (area[front] @ x[front]) / a, (area[back] @ x[back]) / b
            expected.append((a * b / (a + b)).sqrt() * (means[1] - means[0]))
        width *= 2
    pool = coarsen(clique(size), torch.zeros(size, dtype=torch.int64)).pool
    _, (detail,) = haar_pyramid([pool], area).split(x)
    torch.testing.assert_close(detail, torch.stack(expected))


def test_on_a_line_it_is_haars_transform():
    graphs = grids((16,))
    x = torch.randn(16, 1, dtype=torch.float64)
    low, details = haar_pyramid(graphs).split(x)
    scale = x.flatten()  # orthonormal, as in textbooks: sums and differences over the root of 2
    for detail in details:
        front, back = scale[::2], scale[1::2]
        torch.testing.assert_close(detail.flatten(), (back - front) / 2**0.5)
        scale = (front + back) / 2**0.5
    torch.testing.assert_close(4 * low.flatten(), scale)


def test_constants_have_no_details():
    for graphs in (clusters(), grids((7, 10))):
        x = torch.full((graphs[0].num_src_nodes(), 1), 3.0, dtype=torch.float64)
        for pyramid in (haar_pyramid(graphs), laplacian_pyramid(graphs)):
            low, details = pyramid.split(x)
            torch.testing.assert_close(low, torch.full_like(low, 3.0))
            assert max(float(detail.abs().max()) for detail in details if len(detail)) < 1e-12


def test_away_from_the_border_it_is_burt_and_adelsons():
    """REDUCE is their 5 x 5 window at stride 2, EXPAND four times its transpose."""
    (graph,), (weight,) = SMOOTH[:1], gaussian(SMOOTH[:1])
    kernel = torch.tensor([1.0, 4.0, 6.0, 4.0, 1.0], dtype=torch.float64) / 16
    kernel = torch.outer(kernel, kernel).view(1, 1, 5, 5)
    images = torch.randn(2, 1, 9, 12, dtype=torch.float64)
    low, (detail,) = laplacian_pyramid([graph], [weight]).split(to_nodes(images))
    got = to_images(low, (5, 6))
    torch.testing.assert_close(got[..., 1:-1, 1:-1], F.conv2d(images, kernel, stride=2, padding=2)[..., 1:-1, 1:-1])
    up = 4 * F.conv_transpose2d(got, kernel, stride=2, padding=2, output_padding=(0, 1))
    inside = (..., slice(2, -2), slice(2, -2))
    torch.testing.assert_close(to_images(detail, (9, 12))[inside], (images - up)[inside])


@pytest.mark.parametrize("kind", [haar_pyramid, laplacian_pyramid])
def test_derivatives(kind):
    pyramid, x = kind(clusters(nodes=9)), torch.randn(9, 2, dtype=torch.float64, requires_grad=True)

    def outputs(x):
        low, details = pyramid.split(x)
        return low, *details

    assert torch.autograd.gradcheck(outputs, [x])
    parts = [part.detach().requires_grad_() for part in outputs(x)]
    assert torch.autograd.gradcheck(lambda low, *details: pyramid.join(low, details), parts)


def test_invalid_arguments():
    with pytest.raises(ValueError, match="got 16 nodes above level 0 and 25 below level 1"):
        haar_pyramid([lattice((8, 8), 2, stride=2), lattice((5, 5), 1)])
    with pytest.raises(ValueError, match="expected one out-edge at each of 9 nodes, got 1 to 4"):
        haar_pyramid([lattice((3, 3), 2)])
    with pytest.raises(ValueError, match="expected one out-edge at each of 3 nodes, got 0 to 1"):
        haar_pyramid([lattice(3, 2, stride=2)])
    with pytest.raises(ValueError, match="expected clusters of at least one node, got none in 2"):
        haar_pyramid([dgl.heterograph({("in", "to", "out"): ([0, 1], [0, 1])}, {"in": 2, "out": 3})])
    for area in (torch.zeros(4), torch.ones(3), torch.full((4,), torch.nan)):
        with pytest.raises(ValueError, match="area: expected 4 positive numbers"):
            haar_pyramid([lattice(4, 2, stride=2)], area)
    with pytest.raises(ValueError, match="weights: expected 1, one for each level, got 2"):
        laplacian_pyramid([lattice(4, 2, stride=2)], [None, None])
    pyramid = haar_pyramid([lattice(4, 2, stride=2)])
    with pytest.raises(ValueError, match="details: expected those of 1 levels, got 0"):
        pyramid.join(torch.ones(2, 1), [])
    with pytest.raises(ValueError, match=r"details: expected 2 rows, got shape \(3, 1\)"):
        pyramid.join(torch.ones(2, 1), [torch.ones(3, 1)])
    with pytest.raises(ValueError, match="expected 4 rows"):
        pyramid.split(torch.ones(5, 1))
