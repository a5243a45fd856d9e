"""Pixel grids: message passing over them is convolution, to rounding."""

import networkx as nx
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from gnnlib._platform.dgl import dgl
from gnnlib.images import pixel_batch, pixel_graph

CONV = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}


def edges(graph):
    src, dst = graph.edges()
    return list(zip(src.tolist(), dst.tolist(), graph.edata["tap"].tolist()))


def convolve(graph, x, weight):
    """y_v = sum over u->v of W_tap x_u, written as a scatter; x (N, F), weight (out, in, *window)."""
    src, dst = graph.edges()
    per_tap = weight.flatten(2).permute(2, 1, 0)  # (K, in, out)
    message = torch.einsum("ei,eio->eo", x[src.long()], per_tap[graph.edata["tap"]])
    return message.new_zeros(len(x), weight.shape[0]).index_add(0, dst.long(), message)


def test_taps_of_a_three_by_three_image():
    graph = pixel_graph((3, 3))
    into_centre = [(u, tap) for u, v, tap in edges(graph) if v == 4]
    assert into_centre == [(cell, cell) for cell in range(9)]
    into_corner = [(u, tap) for u, v, tap in edges(graph) if v == 0]
    assert into_corner == [(0, 4), (1, 5), (3, 7), (4, 8)]
    assert graph.num_edges() == 49
    assert graph.ndata["pos"].tolist() == [[r, c] for r in range(3) for c in range(3)]
    assert graph.ndata["pos"].dtype == torch.float32
    assert graph.edata["tap"].dtype == torch.int64
    assert graph.in_degrees().tolist() == graph.out_degrees().tolist() == [4, 6, 4, 6, 9, 6, 4, 6, 4]


@pytest.mark.parametrize(
    ("shape", "kernel"),
    [
        ((7,), 3),
        ((5, 6), 3),
        ((5, 6), (1, 5)),
        ((4, 3), (5, 3)),
        ((2, 2), 9),  # a window larger than the image
        ((1, 1), 3),
        ((3, 4, 5), 3),
        ((4, 3, 2), (3, 1, 5)),
    ],
)
@pytest.mark.parametrize("idtype", [torch.int32, torch.int64])
def test_message_passing_is_convolution(shape, kernel, idtype):
    torch.manual_seed(0)
    axes = len(shape)
    window = kernel if isinstance(kernel, tuple) else (kernel,) * axes
    weight = torch.randn(4, 3, *window, dtype=torch.float64)
    image = torch.randn(2, 3, *shape, dtype=torch.float64)
    expected = CONV[axes](image, weight, padding=tuple(size // 2 for size in window))

    graph = pixel_batch(shape, 2, kernel, idtype=idtype)
    got = convolve(graph, image.movedim(1, -1).flatten(0, -2), weight)
    assert graph.idtype == idtype
    torch.testing.assert_close(got, expected.movedim(1, -1).flatten(0, -2), rtol=0, atol=1e-12)


@settings(max_examples=30, deadline=None)
@given(
    shape=st.lists(st.integers(1, 5), min_size=1, max_size=3).map(tuple),
    half=st.integers(0, 2),
    connectivity=st.integers(1, 3),
    self_loops=st.booleans(),
)
def test_every_edge_is_the_offset_of_its_tap(shape, half, connectivity, self_loops):
    size, axes = 2 * half + 1, len(shape)
    connectivity = min(connectivity, axes)
    graph = pixel_graph(shape, size, connectivity, self_loops)
    src, dst = graph.edges()
    tap, pos = graph.edata["tap"], graph.ndata["pos"]
    offset = (pos[src] - pos[dst]).long()
    digits = torch.from_numpy(np.stack(np.unravel_index(tap.numpy(), (size,) * axes), 1)) - half
    assert torch.equal(offset, digits)
    assert (offset != 0).sum(1).le(connectivity).all()
    assert self_loops or (src != dst).all()
    order = dst * size**axes + tap
    assert (order.diff() > 0).all()  # by destination, then tap, and no edge twice
    reverse = {(v, u, size**axes - 1 - t) for u, v, t in edges(graph)}
    assert reverse == set(edges(graph))


@pytest.mark.parametrize("shape", [(6,), (4, 5), (1, 3), (3, 4, 2)])
def test_connectivity_one_is_the_grid_of_networkx(shape):
    reference = nx.grid_graph(dim=shape[::-1])
    number = {
        cell: int(np.ravel_multi_index(cell if isinstance(cell, tuple) else (cell,), shape)) for cell in reference
    }
    expected = {(number[u], number[v]) for a, b in reference.edges() for u, v in ((a, b), (b, a))}
    got = [(u, v) for u, v, _ in edges(pixel_graph(shape, connectivity=1, self_loops=False))]
    assert len(got) == len(expected)
    assert set(got) == expected


def test_numbers_of_omitted_taps_are_unused():
    plus = pixel_graph((3, 3), connectivity=1)
    assert [(u, tap) for u, v, tap in edges(plus) if v == 4] == [(1, 1), (3, 3), (4, 4), (5, 5), (7, 7)]
    ring = pixel_graph((3, 3), self_loops=False)
    assert [tap for _, v, tap in edges(ring) if v == 4] == [0, 1, 2, 3, 5, 6, 7, 8]
    cross = pixel_graph((5, 5), 5, connectivity=1)
    assert [tap for _, v, tap in edges(cross) if v == 12] == [2, 7, 10, 11, 12, 13, 14, 17, 22]


@pytest.mark.parametrize(
    ("options", "degree"),
    [
        ({"shape": (5, 5)}, 9),
        ({"shape": (5, 5), "connectivity": 1}, 5),
        ({"shape": (5, 5), "connectivity": 2, "self_loops": False}, 8),
        ({"shape": (5, 5, 5)}, 27),
        ({"shape": (5, 5, 5), "connectivity": 1, "self_loops": False}, 6),
        ({"shape": (5, 5, 5), "connectivity": 2, "self_loops": False}, 18),
        ({"shape": 5}, 3),
        ({"shape": torch.Size([5, 5]), "kernel_size": [1, 3]}, 3),
    ],
)
def test_degree_in_the_interior(options, degree):
    graph = pixel_graph(**options)
    assert graph.in_degrees()[graph.num_nodes() // 2] == degree


@pytest.mark.parametrize("idtype", [torch.int32, torch.int64])
def test_batch_equals_one_by_one(idtype):
    options = {"kernel_size": (3, 5), "connectivity": 1, "self_loops": False, "idtype": idtype}
    single = pixel_graph((3, 4), **options)
    expected = dgl.batch([single] * 3)
    got = pixel_batch((3, 4), 3, **options)
    assert edges(got) == edges(expected)
    assert torch.equal(got.ndata["pos"], expected.ndata["pos"])
    for name in ("batch_num_nodes", "batch_num_edges"):
        assert torch.equal(getattr(got, name)(), getattr(expected, name)())
        assert getattr(got, name)().dtype == getattr(expected, name)().dtype
    assert all(edges(part) == edges(single) for part in dgl.unbatch(got))


def test_edges_lie_in_the_order_of_the_csc():
    *_, eid = pixel_batch((4, 4), 2).adj_tensors("csc")
    assert torch.equal(eid, torch.arange(len(eid)))


def test_structure_is_shared_and_frames_are_not():
    first, second = pixel_batch((4, 4), 2), pixel_batch([4, 4], 2, kernel_size=(3, 3), connectivity=2)
    assert first._graph is second._graph
    first.ndata["x"] = torch.ones(32)
    first.edata["tap"] = torch.zeros_like(first.edata["tap"])
    first.ndata["pos"] /= 4  # in place
    first.set_batch_num_nodes(torch.tensor([32]))
    first.remove_nodes([0])
    for graph in (second, pixel_batch((4, 4), 2)):
        assert set(graph.ndata) == {"pos"}
        assert set(graph.edata) == {"tap"}
        assert graph.ndata["pos"].max() == 3
        assert graph.edata["tap"].max() == 8
        assert graph.batch_num_nodes().tolist() == [16, 16]
        assert graph.num_nodes() == 32
    assert pixel_graph((4, 4))._graph is not second._graph
    assert pixel_graph((4, 4))._graph is pixel_batch((4, 4), 1)._graph


def test_built_in_inference_mode_still_trains():
    with torch.inference_mode():
        pixel_graph((3, 7))
    weight = torch.randn(9, requires_grad=True)
    tap = pixel_graph((3, 7)).edata["tap"]
    assert not tap.is_inference()
    weight[tap].sum().backward()
    assert weight.grad.tolist() == tap.bincount(minlength=9).tolist()


@pytest.mark.parametrize("idtype", [torch.int32, torch.int64])
def test_an_image_brings_its_values_and_distances(idtype):
    image = torch.rand(4, 5, 3)
    graph = pixel_graph(image, idtype=idtype)
    assert edges(graph) == edges(pixel_graph((4, 5)))
    assert torch.equal(graph.ndata["feat"], image.view(20, 3))
    src, dst = (end.long() for end in graph.edges())
    assert torch.equal(graph.edata["offset"], graph.ndata["pos"][src] - graph.ndata["pos"][dst])
    assert set(graph.edata["distance"].square().round().int().tolist()) == {0, 1, 2}
    assert set(pixel_graph((4, 5)).edata) == {"tap"}
    levels = (image * 255).byte()
    assert torch.equal(pixel_graph(levels).ndata["feat"], levels.view(20, 3).double().div(255).float())
    volume = pixel_graph(np.zeros((2, 3, 4)), axes=3)
    assert edges(volume) == edges(pixel_graph((2, 3, 4)))
    assert pixel_graph(np.zeros(6), axes=1).num_nodes() == 6


@pytest.mark.parametrize("idtype", [torch.int32, torch.int64])
def test_mask_is_zero_padding(idtype):
    torch.manual_seed(0)
    mask = torch.rand(6, 7) < 0.7
    image, weight = torch.randn(6, 7, 2, dtype=torch.float64), torch.randn(4, 2, 3, 3, dtype=torch.float64)
    expected = F.conv2d((image * mask[..., None]).permute(2, 0, 1)[None], weight, padding=1)[0].permute(1, 2, 0)
    for graph in (pixel_graph((6, 7), mask=mask, idtype=idtype), pixel_graph(image, mask=mask, idtype=idtype)):
        got = convolve(graph, image[mask], weight)
        torch.testing.assert_close(got, expected[mask], rtol=0, atol=1e-12)
        assert torch.equal(graph.ndata["pos"], mask.nonzero().float())
        assert torch.equal(graph.label_map[mask], torch.arange(int(mask.sum())))
        assert graph.label_map[~mask].eq(-1).all()
        assert graph.idtype == idtype
        assert set(graph.ndata) <= {"pos", "feat"}
    assert pixel_graph((6, 7), mask=torch.ones(6, 7, dtype=torch.bool)).num_nodes() == 42


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((0, 3)), r"image: expected at least one pixel and channel, got shape \(0, 3\)"),
        (np.zeros(3), r"image: expected 2 axes, or 3 with channels last, got shape \(3,\)"),
        (np.full((2, 2), np.nan), "image: expected finite values, got nan"),
    ],
)
def test_bad_images(image, message):
    with pytest.raises(ValueError, match=message):
        pixel_graph(image)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"shape": (3, 0)}, r"shape: expected one positive length per axis, got \(3, 0\)"),
        ({"shape": (3, -1)}, r"shape: .* got \(3, -1\)"),
        ({"shape": ()}, r"shape: .* got \(\)"),
        ({"shape": (3, 3), "kernel_size": 2}, "kernel_size: expected positive odd sizes, got 2"),
        ({"shape": (3, 3), "kernel_size": 0}, "kernel_size: .* got 0"),
        ({"shape": (3, 3), "kernel_size": (3, -1)}, r"kernel_size: .* got \(3, -1\)"),
        ({"shape": (3, 3), "kernel_size": (3,)}, r"kernel_size: expected 2 sizes for shape \(3, 3\), got \(3,\)"),
        ({"shape": (3, 3), "kernel_size": ()}, "kernel_size: expected 2 sizes"),
        ({"shape": (3, 3), "connectivity": 0}, "connectivity: expected None or 1 to 2 .* got 0"),
        ({"shape": (3, 3), "connectivity": 3}, "connectivity: .* got 3"),
    ],
)
def test_bad_values(options, message):
    with pytest.raises(ValueError, match=message):
        pixel_graph(**options)


@pytest.mark.parametrize("options", [{"shape": (3, 2.5)}, {"shape": None}, {"shape": (3,), "kernel_size": 3.0}])
def test_bad_types(options):
    with pytest.raises(TypeError, match="expected an integer or a sequence of integers, got"):
        pixel_graph(**options)


def test_bad_batch_size_and_idtype():
    with pytest.raises(ValueError, match="batch_size: expected at least 1, got 0"):
        pixel_batch((3, 3), 0)
    with pytest.raises(dgl.DGLError, match=r"int32/int64, got torch\.float32"):
        pixel_graph((3, 3), idtype=torch.float32)


def test_edits_of_one_graph_do_not_reach_the_next():
    first = pixel_graph((5, 6))
    first.remove_nodes([0, 7])
    again = pixel_graph((5, 6))
    assert again.num_nodes() == 30
    assert again.batch_num_nodes().tolist() == [30]
    assert again.batch_num_edges().tolist() == [again.num_edges()]
