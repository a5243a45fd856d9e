"""The sphere: projections against scipy and by hand, rotations against their group and their uniform measure."""

import math

import numpy as np
import pytest
import torch
from scipy import ndimage, stats

from gnnlib import ChebConv, GCNConv, aggregate
from gnnlib.analysis.symmetry import relabel, rotation_error
from gnnlib.grid import GridPool
from gnnlib.images import (
    equirectangular,
    icosahedral_rotations,
    icosphere,
    project,
    random_rotations,
    sphere_graph,
    sphere_interpolation,
    sphere_pooling,
)

EYE = torch.eye(3, dtype=torch.float64)


def nodes(level):
    return torch.from_numpy(icosphere(level)[0])


def apart(a, b):
    return torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist")


def about_x(angle):
    c, s = math.cos(angle), math.sin(angle)
    return torch.tensor([[1.0, 0, 0], [0, c, -s], [0, s, c]], dtype=torch.float64)


# ---------------------------------------------------------------- projection


def test_projection_is_scipys_interpolation_at_stereographic_coordinates():
    images = torch.rand(3, 2, 7, 9, dtype=torch.float64)
    points = nodes(3)
    x, y, z = points[points[:, 0] > -0.5].T.numpy()
    row = (-math.sqrt(2) * z / (1 + x) + 1) * 7 / 2 - 0.5
    column = (math.sqrt(2) * y / (1 + x) + 1) * 9 / 2 - 0.5
    signal = project(images, points)
    assert signal.shape == (642, 3, 2)
    for b in range(3):
        for c in range(2):
            padded = np.pad(images[b, c].numpy(), 1)
            expected = ndimage.map_coordinates(padded, [row + 1, column + 1], order=1, mode="constant")
            outside = (np.abs(row - 3) > 4) | (np.abs(column - 4) > 5)
            expected[outside] = 0
            np.testing.assert_allclose(signal[points[:, 0] > -0.5, b, c], expected, atol=1e-12)
    assert not signal[points[:, 0] < -0.3].any(), "the other half is empty"


def test_orientation_of_projection():
    image = torch.tensor([[1.0, 2.0], [3.0, 4.0]]).view(1, 1, 2, 2)
    up, right = torch.tensor([0.0, 0, 1]), torch.tensor([0.0, 1, 0])
    for (row, column), value in np.ndenumerate([[1, 2], [3, 4]]):
        plane = (right * (column - 0.5) - up * (row - 0.5)) / math.sqrt(2)
        square = (plane**2).sum()
        point = (2 * plane + (1 - square) * torch.tensor([1.0, 0, 0])) / (1 + square)
        assert project(image, point.view(1, 3)).item() == pytest.approx(value, rel=1e-5)


def test_corners_are_on_the_great_circle_and_beyond_is_nothing():
    white = torch.ones(1, 1, 64, 64, dtype=torch.float64)
    corner = torch.tensor([[0.02, math.sqrt(0.5), math.sqrt(0.5)], [-0.05, math.sqrt(0.5), math.sqrt(0.5)]])
    inside, outside = project(white, corner / corner.norm(dim=1, keepdim=True)).flatten().tolist()
    assert (inside, outside) == (1, 0)
    assert project(white, -torch.eye(3, dtype=torch.float64)[:1]).item() == 0, "opposite the middle"
    area = (project(white, nodes(5)) > 0.5).double().mean().item()
    pixels = (torch.arange(400.0, dtype=torch.float64) + 0.5) / 200 - 1
    u, v = torch.meshgrid(pixels, pixels, indexing="ij")
    exact = (4 / (1 + (u**2 + v**2) / 2) ** 2 / 2).mean() * 4 / (4 * math.pi)  # the projection's area element
    assert area == pytest.approx(exact.item(), rel=0.01)


def test_rotated_signals():
    images, points = torch.rand(4, 1, 8, 8, dtype=torch.float64), nodes(2)
    turns = random_rotations(4, torch.Generator().manual_seed(0))
    together = project(images, points, turns)
    for b in range(4):
        one = project(images[b : b + 1], points @ turns[b])  # x(R^-1 p)
        torch.testing.assert_close(together[:, b : b + 1], one)
    quarter = project(images, points, about_x(math.pi / 2))
    torch.testing.assert_close(quarter, project(images.rot90(1, (2, 3)), points), msg="about its middle, to the left")
    torch.testing.assert_close(project(images, points, EYE), project(images, points))


def test_a_map_of_cells():
    points = equirectangular((6, 12))
    torch.testing.assert_close(points.norm(dim=1), torch.ones(72).double())
    latitude = points[:, 2].view(6, 12).asin().rad2deg()
    longitude = torch.atan2(points[:, 1], points[:, 0]).view(6, 12).rad2deg()
    torch.testing.assert_close(latitude[:, 0], torch.arange(75.0, -90, -30).double())
    torch.testing.assert_close(longitude[0], torch.arange(-165.0, 180, 30).double())
    image = torch.zeros(1, 1, 8, 8)
    image[0, 0, 0, 7] = 1
    shown = project(image, equirectangular((40, 80))).view(40, 80)
    row, column = divmod(shown.argmax().item(), 80)
    assert row < 20
    assert column > 40, "up and right, on the map too"


# ---------------------------------------------------------------- rotations


def test_the_icosahedrons_rotations_are_a_group_of_sixty():
    turns = icosahedral_rotations()
    torch.testing.assert_close(turns @ turns.mT, EYE.expand(60, 3, 3))
    torch.testing.assert_close(torch.linalg.det(turns), torch.ones(60).double())
    trace = turns.diagonal(dim1=1, dim2=2).sum(1)
    degrees = ((trace - 1) / 2).clamp(-1, 1).acos().rad2deg().round().int().tolist()
    assert {angle: degrees.count(angle) for angle in set(degrees)} == {0: 1, 72: 12, 120: 20, 144: 12, 180: 15}
    products = (turns[:, None] @ turns).flatten(0, 1).flatten(1)
    distance = apart(products, turns.flatten(1))
    assert (distance.min(1).values < 1e-10).all(), "closed"
    assert (apart(turns.flatten(1), turns.flatten(1)) > 0.5).sum() == 60 * 59, "all different"


@pytest.mark.parametrize(("level", "reach"), [(0, None), (1, None), (2, None), (2, 2.5), (2, 3.0)])
def test_they_take_the_sphere_graph_to_itself(level, reach):
    points, graph = nodes(level), sphere_graph(level, reach)
    edges = set(zip(*(end.tolist() for end in graph.edges())))
    for turn in icosahedral_rotations()[::7]:
        distance, image = apart(points @ turn.mT, points).min(1)
        assert distance.max() < 1e-10
        assert {(int(image[u]), int(image[v])) for u, v in edges} == edges


def test_the_reach_is_in_mean_sides():
    graph, points = sphere_graph(2, reach=2.5), nodes(2)
    side = sphere_graph(2).edata["distance"].mean()
    near = (apart(points, points) <= 2.5 * side) & ~torch.eye(162, dtype=torch.bool)
    assert graph.num_edges() == near.sum()
    assert near[graph.edges()].all()
    assert sphere_graph(2, reach=1.2).num_edges() == sphere_graph(2).num_edges()


def test_random_rotations_are_uniform():
    turns = random_rotations(4000, torch.Generator().manual_seed(1))
    torch.testing.assert_close(turns @ turns.mT, EYE.expand(4000, 3, 3))
    torch.testing.assert_close(torch.linalg.det(turns), torch.ones(4000).double())
    assert torch.equal(turns, random_rotations(4000, torch.Generator().manual_seed(1)))
    angle = ((turns.diagonal(dim1=1, dim2=2).sum(1) - 1) / 2).clamp(-1, 1).acos().numpy()
    assert stats.kstest(angle, lambda a: (a - np.sin(a)) / np.pi).pvalue > 0.01, "of Haar's measure"
    assert stats.kstest(turns.flatten().numpy(), stats.uniform(-1, 2).cdf).pvalue > 1e-4, "each entry is uniform"
    second = torch.einsum("nij,nkl->ijkl", turns, turns) / 4000
    expected = torch.einsum("ik,jl->ijkl", EYE, EYE) / 3
    torch.testing.assert_close(second, expected, atol=0.05, rtol=0)


# ---------------------------------------------------------------- between points


def test_interpolation_of_linear_signals():
    points = nodes(2)
    there = sphere_interpolation(2, points)
    x = torch.rand(162, 2, dtype=torch.float64)
    torch.testing.assert_close(aggregate(there, x, there.edata["weight"]), x)
    some = random_rotations(200, torch.Generator().manual_seed(0))[:, 0]
    graph = sphere_interpolation(2, 3 * some)
    assert graph.in_degrees().tolist() == [3] * 200
    assert graph.edata["weight"].min() >= 0
    torch.testing.assert_close(
        aggregate(graph, torch.ones(162, 1).double(), graph.edata["weight"]), torch.ones(200, 1).double()
    )
    on_plane = aggregate(graph, points, graph.edata["weight"])  # on the triangle, in the point's direction
    torch.testing.assert_close(on_plane / on_plane.norm(dim=1, keepdim=True), some)
    torch.testing.assert_close(graph.dstdata["pos"].double(), some, rtol=1e-6, atol=1e-6)


def test_interpolation_errs_by_the_square_of_the_spacing():
    some = random_rotations(300, torch.Generator().manual_seed(0))[:, 0]

    def error(level):
        graph = sphere_interpolation(level, some)
        wave = lambda p: torch.cos(3 * p[:, :1]) + p[:, 1:2] * p[:, 2:]  # noqa: E731
        return (aggregate(graph, wave(nodes(level)), graph.edata["weight"]) - wave(some)).abs().max().item()

    assert error(3) / error(4) == pytest.approx(4, rel=0.3)


@pytest.mark.parametrize("level", [1, 2, 3])
def test_pooling_takes_a_node_and_its_neighbours(level):
    pool, fine, coarse = sphere_pooling(level), sphere_graph(level), sphere_graph(level - 1)
    assert (pool.num_nodes("in"), pool.num_nodes("out")) == (fine.num_nodes(), coarse.num_nodes())
    torch.testing.assert_close(pool.dstdata["pos"], coarse.ndata["pos"])
    src, dst = pool.edges()
    for node in (0, coarse.num_nodes() - 1):
        assert src[dst == node].sort().values.tolist() == sorted([node, *fine.predecessors(node).tolist()])
    x = torch.rand(fine.num_nodes(), 2)
    expected = torch.stack([x[src[dst == node]].amax(0) for node in range(coarse.num_nodes())])
    torch.testing.assert_close(GridPool("max")(pool, x), expected)


# ---------------------------------------------------------------- errors of rotation


def turn_on(level):
    def turn(y, rotation):
        graph = sphere_interpolation(level, nodes(level) @ rotation)
        return aggregate(graph, y, graph.edata["weight"])

    return turn


@pytest.mark.parametrize("layer", [lambda: GCNConv(1, 4), lambda: ChebConv(1, 4, k=4)])
def test_layers_follow_the_icosahedrons_rotations_to_rounding_and_others_nearly(layer):
    torch.manual_seed(0)
    images, layer, graph = torch.rand(3, 1, 4, 4, dtype=torch.float64), layer().double(), sphere_graph(2)
    pool = sphere_pooling(2)
    signals = lambda R: project(images, nodes(2), R)  # noqa: E731
    some = icosahedral_rotations()[1::7]

    def net(x):
        return GridPool("max")(pool, layer(graph, x).relu())

    assert rotation_error(net, signals, some, rotate_output=turn_on(1)).max() < 1e-8
    assert rotation_error(lambda x: net(x).mean(0), signals, some).max() < 1e-8
    other = random_rotations(3, torch.Generator().manual_seed(0))
    assert rotation_error(net, signals, other, rotate_output=turn_on(1)).min() > 1e-3


def test_the_rotation_error_is_that_of_the_formula():
    weight = torch.rand(162, 1, 1, dtype=torch.float64)
    images, turns = torch.rand(3, 1, 4, 4, dtype=torch.float64), icosahedral_rotations()[[0, 5]]
    still, moved = (project(images, nodes(2), turn) * weight for turn in turns)
    reference = turn_on(2)(still, turns[1])
    errors = rotation_error(
        lambda x: x * weight, lambda R: project(images, nodes(2), R), turns, rotate_output=turn_on(2)
    )
    assert errors[0] < 1e-10
    assert errors[1].item() == pytest.approx(((moved - reference).norm() / reference.norm()).item())
    stay = rotation_error(lambda x: x * weight, lambda R: project(images, nodes(2), R), turns)
    assert stay[1].item() == pytest.approx(((moved - still).norm() / still.norm()).item())


def test_relabelled_by_a_rotation_the_graph_is_the_same():
    points, graph = nodes(1), sphere_graph(1)
    order = apart(points @ icosahedral_rotations()[9].mT, points).argmin(1)
    other = relabel(graph, order)
    assert set(zip(*(e.tolist() for e in other.edges()))) == set(zip(*(e.tolist() for e in graph.edges())))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: project(torch.zeros(8, 8), nodes(0)), r"images \(B, C, rows, columns\).*got \(8, 8\) and \(12, 3\)"),
        (lambda: project(torch.zeros(2, 1, 8, 8), nodes(0)[:, :2]), r"got \(2, 1, 8, 8\) and \(12, 2\)"),
        (
            lambda: project(torch.zeros(2, 1, 8, 8), nodes(0), torch.zeros(3, 3, 3)),
            r"expected \(3, 3\) or \(2, 3, 3\), got \(3, 3, 3\)",
        ),
        (lambda: sphere_interpolation(1, torch.zeros(2, 3)), r"none of them \(0, 0, 0\), got \(2, 3\)"),
        (lambda: sphere_interpolation(1, torch.ones(3)), r"shape \(n, 3\).*got \(3,\)"),
        (lambda: sphere_pooling(0), "expected 1 or more, got 0"),
        (lambda: sphere_interpolation(11, nodes(0)), "expected 0 to 10, got 11"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()
