"""Meshes, spheres and skeletons: against Euler, Gauss and scipy."""

import numpy as np
import pytest
import torch
from scipy.spatial import ConvexHull, Delaunay

from gnnlib.images import icosphere, mesh_graph, point_graph, sphere_graph

SQUARE = np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])


def pairs(graph):
    return list(zip(*(end.tolist() for end in graph.edges())))


@pytest.mark.parametrize("level", range(5))
def test_icosphere(level):
    vertices, faces = icosphere(level)
    graph = sphere_graph(level)
    assert (len(vertices), len(faces)) == (10 * 4**level + 2, 20 * 4**level)
    np.testing.assert_allclose(np.linalg.norm(vertices, axis=1), 1)
    assert len(vertices) - graph.num_edges() // 2 + len(faces) == 2  # Euler
    assert sorted(graph.in_degrees().tolist()) == [5] * 12 + [6] * (len(vertices) - 12)
    a, b, c = np.moveaxis(vertices[faces], 1, 0)
    volume = np.einsum("fi,fi->f", a, np.cross(b, c)) / 6  # positive: seen from outside, counterclockwise
    assert (volume > 0).all()
    assert volume.sum() == pytest.approx(ConvexHull(vertices).volume)
    areas = np.linalg.norm(np.cross(b - a, c - a), axis=1)
    assert areas.max() / areas.min() < 2.1
    if level:
        coarse = icosphere(level - 1)[0]
        np.testing.assert_array_equal(vertices[: len(coarse)], coarse)


def test_the_icosahedron_is_regular():
    graph = sphere_graph(0)
    assert graph.edata["distance"].tolist() == pytest.approx([4 / np.sqrt(10 + 2 * np.sqrt(5))] * 60)


def test_the_volume_tends_to_that_of_the_ball():
    vertices, faces = icosphere(5)
    assert np.linalg.det(vertices[faces]).sum() / 6 == pytest.approx(4 / 3 * np.pi, rel=2e-3)


def test_mesh_of_a_triangulation():
    points = np.random.default_rng(0).random((40, 2))
    mesh = Delaunay(points)
    graph = mesh_graph(torch.from_numpy(points), torch.from_numpy(mesh.simplices))
    start, near = mesh.vertex_neighbor_vertices
    expected = {(int(u), v) for v in range(40) for u in near[start[v] : start[v + 1]]}
    assert set(pairs(graph)) == expected
    assert graph.num_edges() == len(expected)
    src, dst = graph.edges()
    torch.testing.assert_close(graph.edata["offset"], torch.from_numpy(points[src] - points[dst]).float())
    torch.testing.assert_close(graph.edata["distance"], graph.edata["offset"].norm(dim=1))


def test_quads_and_skeletons():
    quad = mesh_graph(SQUARE, np.array([[0, 1, 3, 2]]))
    assert pairs(quad) == [(1, 0), (2, 0), (0, 1), (3, 1), (0, 2), (3, 2), (1, 3), (2, 3)]
    twice = point_graph(SQUARE, np.array([[0, 1], [1, 0], [0, 1], [2, 1]]))
    assert pairs(twice) == [(1, 0), (0, 1), (2, 1), (1, 2)]
    assert twice.num_nodes() == 4
    bare = point_graph(SQUARE[:1], np.zeros((0, 2), int))
    assert (bare.num_nodes(), bare.num_edges(), bare.edata["offset"].shape) == (1, 0, (0, 2))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: point_graph(SQUARE[0], np.zeros((0, 2), int)), ValueError, r"points: .* got \(2,\)"),
        (lambda: point_graph(SQUARE[:0], np.zeros((0, 2), int)), ValueError, r"points: .* got \(0, 2\)"),
        (lambda: point_graph(SQUARE * np.nan, np.zeros((0, 2), int)), ValueError, "nan"),
        (
            lambda: point_graph(SQUARE, np.array([[0, 4]])),
            ValueError,
            "edges: expected indices from 0 to 3, got 0 to 4",
        ),
        (lambda: point_graph(SQUARE, np.array([[-1, 2]])), ValueError, "edges: expected indices from 0 to 3, got -1"),
        (
            lambda: point_graph(SQUARE, np.array([[2, 2]])),
            ValueError,
            r"edges: expected two different points, got \[2, 2\]",
        ),
        (
            lambda: point_graph(SQUARE, np.array([[0, 1, 2]])),
            ValueError,
            r"edges: expected shape \(rows, 2\), got \(1, 3\)",
        ),
        (lambda: point_graph(SQUARE, np.array([[0.0, 1.0]])), TypeError, "edges: expected integers, got float64"),
        (lambda: mesh_graph(SQUARE, np.array([[0, 1]])), ValueError, r"faces: .* 3 corners or more, got \(1, 2\)"),
        (
            lambda: mesh_graph(SQUARE, np.array([[0, 1, 9]])),
            ValueError,
            "faces: expected indices from 0 to 3, got 0 to 9",
        ),
        (lambda: sphere_graph(-1), ValueError, "level: expected 0 to 10, got -1"),
        (lambda: sphere_graph(1.5), TypeError, "level: expected an integer, got 1.5"),
        (lambda: sphere_graph(1, reach=0.0), ValueError, "a positive number, got 0.0"),
    ],
)
def test_bad_input(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_lists_tensors_and_read_only_arrays():
    fixed = SQUARE.copy()
    fixed.flags.writeable = False
    expected = mesh_graph(SQUARE, np.array([[0, 1, 2]]))
    for vertices in (SQUARE.tolist(), torch.from_numpy(SQUARE).bfloat16(), fixed):
        for faces in ([[0, 1, 2]], torch.tensor([[0, 1, 2]], dtype=torch.int32)):
            graph = mesh_graph(vertices, faces)
            assert torch.equal(graph.ndata["pos"], expected.ndata["pos"])
            assert all(torch.equal(a, b) for a, b in zip(graph.edges(), expected.edges()))
