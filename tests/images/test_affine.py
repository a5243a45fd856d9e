"""Affine maps of graphs made from images."""

import pytest
import torch

from gnnlib._platform.dgl import dgl
from gnnlib.images import pixel_graph, random_affine, superpixel_graph


def grid(*shape):
    graph = pixel_graph(shape)
    src, dst = graph.edges()
    graph.edata["offset"] = graph.ndata["pos"][src] - graph.ndata["pos"][dst]
    return graph


def graphs():
    return dgl.batch([grid(4, 5), grid(3, 3), grid(6, 2)])


def pieces(graph):
    return [(one.ndata["pos"], one.edata["offset"]) for one in dgl.unbatch(graph)]


def fitted(before, after):
    """The affine map that explains the positions best: M and t of after = before M^T + t."""
    ones = torch.cat([before, torch.ones(len(before), 1)], 1)
    solution = torch.linalg.lstsq(ones, after).solution
    assert torch.allclose(ones @ solution, after, atol=1e-4)
    return solution[:2].T, solution[2]


def test_one_map_per_graph_for_positions_and_offsets():
    batch = graphs()
    moved = random_affine(batch, 30.0, 2.0, (0.8, 1.25), 0.2)
    maps = []
    for (pos, offset), (new_pos, new_offset) in zip(pieces(batch), pieces(moved), strict=True):
        matrix, _ = fitted(pos, new_pos)
        assert torch.allclose(new_offset, offset @ matrix.T, atol=1e-4)
        maps.append(matrix)
    assert not torch.allclose(maps[0], maps[1])
    assert moved.batch_num_nodes().tolist() == batch.batch_num_nodes().tolist()


def test_offsets_stay_differences_of_positions():
    image = torch.rand(28, 28)
    moved = random_affine(superpixel_graph(image, 40), 20.0, 3.0, (0.9, 1.1), 0.1)
    src, dst = moved.edges()
    pos = moved.ndata["pos"]
    expected = superpixel_graph(image, 40)
    a, b = expected.edges()
    sign = 1 if torch.allclose(expected.edata["offset"], expected.ndata["pos"][a] - expected.ndata["pos"][b]) else -1
    assert torch.allclose(moved.edata["offset"], sign * (pos[src] - pos[dst]), atol=1e-4)
    assert torch.allclose(moved.edata["distance"], moved.edata["offset"].norm(dim=1), atol=1e-5)


@pytest.mark.parametrize(
    ("ranges", "bounds"),
    [
        ({"degrees": 25.0}, lambda m, t: (m @ m.T - torch.eye(2)).abs().max() < 1e-4 and m[0, 0] >= 0.906),
        ({"scale": (0.5, 2.0)}, lambda m, t: (m - m[0, 0] * torch.eye(2)).abs().max() < 1e-4 and 0.5 <= m[0, 0] <= 2),
        (
            {"shear": 0.3},
            lambda m, t: (m.diag() - 1).abs().max() < 1e-4 and m[1, 0].abs() < 1e-4 and m[0, 1].abs() < 0.31,
        ),
        ({"translate": 2.0}, lambda m, t: (m - torch.eye(2)).abs().max() < 1e-4 and t.abs().max() <= 2.01),
    ],
)
def test_parameters_cover_their_ranges(ranges, bounds):
    batch = dgl.batch([grid(4, 4)] * 50)
    maps = [fitted(p, q) for (p, _), (q, _) in zip(pieces(batch), pieces(random_affine(batch, **ranges)), strict=True)]
    assert all(bounds(matrix, shift) for matrix, shift in maps)
    assert (
        torch.stack([matrix for matrix, _ in maps]).std(0).max() > 0.01
        or torch.stack([t for _, t in maps]).std(0).max() > 0.5
    )


@pytest.mark.slow
def test_a_flip_mirrors_the_columns_of_that_share_of_the_graphs():
    """Det M = -1 for a mirrored graph; of 400 graphs a quarter, within four standard deviations."""
    batch = dgl.batch([grid(2, 3)] * 400)
    moved = random_affine(batch, flip=0.25, generator=torch.Generator().manual_seed(0))
    maps = torch.stack([fitted(p, q)[0] for (p, _), (q, _) in zip(pieces(batch), pieces(moved), strict=True)])
    mirrored = maps[:, 1, 1] < 0
    assert torch.allclose(maps[mirrored], torch.diag(torch.tensor([1.0, -1.0])), atol=1e-4)
    assert torch.allclose(maps[~mirrored], torch.eye(2), atol=1e-4)
    assert abs(mirrored.double().mean() - 0.25) < 4 * (0.25 * 0.75 / 400) ** 0.5
    with pytest.raises(ValueError, match="expected flip, a probability from 0 to 1, got 2"):
        random_affine(batch, flip=2)


def test_without_ranges_nothing_moves_and_a_generator_repeats():
    batch = graphs()
    assert torch.allclose(random_affine(batch).ndata["pos"], batch.ndata["pos"], atol=1e-6)
    one, two = (random_affine(batch, 9.0, generator=torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(one.ndata["pos"], two.ndata["pos"])
    assert not torch.equal(one.ndata["pos"], batch.ndata["pos"])


@pytest.mark.parametrize(
    "ranges", [{"degrees": -1.0}, {"translate": -1.0}, {"shear": -0.1}, {"scale": (0.0, 1.0)}, {"scale": (2.0, 1.0)}]
)
def test_invalid_ranges(ranges):
    with pytest.raises(ValueError, match="expected degrees, translate and shear of 0 or more"):
        random_affine(pixel_graph((2, 2)), **ranges)


def test_positions_that_are_not_of_a_plane():
    with pytest.raises(ValueError, match=r"expected positions \(N, 2\), got \(8, 3\)"):
        random_affine(pixel_graph((2, 2, 2)))
    with pytest.raises(ValueError, match="got None"):
        random_affine(dgl.graph(([0], [1])))
