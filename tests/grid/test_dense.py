"""Views between nodes and images, and which graphs are whole lattices."""

import pickle

import pytest
import torch

from gnnlib._platform.dgl import dgl
from gnnlib.grid import (
    GridConv,
    Window,
    adaptive_lattice,
    lattice,
    to_images,
    to_nodes,
    transposed_lattice,
    whole,
)
from gnnlib.images import pixel_batch, pixel_graph


@pytest.mark.parametrize("order", [torch.contiguous_format, torch.channels_last])
def test_the_views_are_views(order):
    images = torch.randn(2, 3, 4, 5).to(memory_format=order)
    x = to_nodes(images)
    assert (x.shape, x.data_ptr()) == ((20, 2, 3), images.data_ptr())
    assert torch.equal(x[7, 1], images[1, :, 1, 2])
    back = to_images(x, (4, 5))
    assert (back.data_ptr(), back.stride()) == (images.data_ptr(), images.stride())
    assert torch.equal(back, images)


def test_a_batch_of_grids_is_channels_last():
    x = torch.randn(6 * 20, 3)
    images = to_images(x, (4, 5))
    assert (images.shape, images.data_ptr()) == ((6, 3, 4, 5), x.data_ptr())
    assert images.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(to_nodes(images, 6).squeeze(1), x)
    signals = torch.randn(6 * 20, 2, 3)
    assert torch.equal(to_nodes(to_images(signals, (4, 5)), 6), signals)
    with pytest.raises(ValueError, match=r"a row for each of 20 cells of \(4, 5\), or copies, got 119"):
        to_images(x[1:], (4, 5))


@pytest.mark.parametrize("order", [torch.contiguous_format, torch.channels_last])
def test_nchw_is_not_copied(order, monkeypatch):
    images = torch.randn(4, 16, 12, 12).to(memory_format=order)
    seen = []
    conv = torch.nn.functional.conv2d
    monkeypatch.setattr("gnnlib.grid.dense.CONV", (None, lambda x, *rest: seen.append(x) or conv(x, *rest), None))
    y = GridConv(16, 8, 3)(lattice((12, 12), 3, padding=1), to_nodes(images))
    assert seen[0].data_ptr() == images.data_ptr()
    assert seen[0].is_contiguous(memory_format=order)
    assert to_images(y, (12, 12)).is_contiguous(memory_format=order)
    assert to_images(y, (12, 12)).data_ptr() == y.data_ptr()

    x = torch.randn(4 * 144, 16)
    y = GridConv(16, 8, 3)(dgl.batch([lattice((12, 12), 3, padding=1)] * 4), x)
    assert seen[1].data_ptr() == x.data_ptr()
    assert seen[1].is_contiguous(memory_format=torch.channels_last)
    assert y.is_contiguous()


# ---------------------------------------------------------------- recognition

WINDOWS = [
    ((7,), 3, 1, 0, 1, False),
    ((8,), 4, 1, "same", 1, False),
    ((7,), 3, 2, ((0, 1),), 1, False),
    ((6,), 3, 2, ((0, 1),), 1, False),  # cells and taps as in ceil mode without padding, other areas
    ((6,), 3, 2, 0, 1, True),
    ((7, 6), (3, 2), (2, 3), (1, 0), (1, 2), False),
    ((7, 7), 4, 3, 1, 1, True),
    ((5, 5), 5, 1, 0, 1, False),  # one output
    ((1, 1), 3, 1, 1, 1, False),  # one cell
    ((4, 4), 1, 2, 0, 1, False),
    ((5, 5), 3, 4, "wide", 2, False),
    ((3, 4, 5), (2, 3, 1), (1, 2, 3), (1, 0, 0), 1, False),
    ((2, 3, 2, 3), 2, 1, 0, 1, False),
]


def sees(window):
    return [axis.tolist() for axis in window.cells()], window.size


@pytest.mark.parametrize("arguments", WINDOWS)
@pytest.mark.parametrize("explicit", [True, False])
def test_read_back_from_the_graph_alone(arguments, explicit, tmp_path):
    window = Window.of(*arguments)
    kernel = window.kernel_size if explicit else None
    graph = lattice(*arguments)
    assert whole(graph, kernel) == (window, 1, False)
    back = dgl.reverse(graph, copy_ndata=True, copy_edata=True)
    dgl.save_graphs(str(tmp_path / "graph"), [graph])
    readers = [
        (dgl.batch([graph] * 3), 3, False),
        (dgl.batch([back] * 3), 3, True),
        (back, 1, True),
        (dgl.load_graphs(str(tmp_path / "graph"))[0][0], 1, False),
        (pickle.loads(pickle.dumps(graph)), 1, False),
        (graph.int(), 1, False),
    ]
    for reader, copies, transposed in readers:
        match = whole(reader, kernel)
        if match is None:  # the edges of so small a grid do not show how large a window is
            assert not explicit
            assert window.size == (1, 1)
            continue
        assert (match.copies, match.transposed) == (copies, transposed)
        if max(window.size) > 1:
            assert sees(match.window) == sees(window)


def test_transposed_lattice():
    for arguments in ((4, 3, 2, 1, 1), ((3, 3), 2, 1, 0, 2, 3), ((2, 5), 3, 3, 0, 2)):
        graph = transposed_lattice(*arguments)
        assert whole(graph) == (Window.transposed(*arguments), 1, True)
        match = whole(dgl.batch([graph, graph]))
        assert (match.copies, match.transposed) == (2, True)
        assert sees(match.window) == sees(Window.transposed(*arguments))


def test_pixel_graph_with_all_taps():
    match = whole(pixel_graph((6, 5), (3, 5)), (3, 5))
    assert match == (Window.of((6, 5), (3, 5), padding=(1, 2)), 1, False)
    assert whole(pixel_batch((6, 5), 4)).copies == 4
    assert whole(pixel_graph((6, 5), connectivity=1)) is None
    assert whole(pixel_graph((6, 5), self_loops=False)) is None
    assert whole(pixel_graph((6, 5)), (5, 5)) is None


def test_even_adaptive_windows_are_ordinary_ones():
    assert whole(adaptive_lattice((6, 8), (3, 2))).window.kernel_size == (2, 4)
    assert whole(adaptive_lattice(5, 2)).window.stride == (2,)
    assert whole(adaptive_lattice((6, 8), 1)).window.kernel_size == (6, 8)
    assert whole(adaptive_lattice(8, 3)) is None


@pytest.mark.parametrize("make", [lambda: lattice((6, 6), 3), lambda: dgl.batch([lattice((6, 6), 3, 2)] * 3)])
def test_one_change_and_it_is_none(make):
    graph = make()
    assert whole(graph) is not None
    graph.remove_edges([graph.num_edges() - 1])
    assert whole(graph) is None

    graph = make()
    tap = graph.edata["tap"].clone()
    tap[-1] = 0
    graph.edata["tap"] = tap
    assert whole(graph) is None
    tap[-1] = 8  # in place, after the answer
    assert whole(graph) is not None
    tap[[0, 1]] = tap[[1, 0]]
    assert whole(graph) is None
    assert whole(make()) is not None

    graph = make()
    graph.add_edges([0], [0], {"tap": torch.tensor([0])})
    assert whole(graph) is None


def test_a_batch_of_different_lattices_is_none():
    assert whole(dgl.batch([lattice((6, 6), 3), lattice((6, 5), 3)])) is None
    assert whole(dgl.batch([lattice((6, 6), 3), lattice((6, 6), 3, 2)])) is None


def test_other_graphs_are_none():
    assert whole(dgl.graph(([0], [1]))) is None
    graph = dgl.graph(([0, 1], [1, 0]))
    graph.edata["tap"] = torch.zeros(2, dtype=torch.int64)
    assert whole(graph) is None
    for at in (float("nan"), float("inf"), 1e30, -1.0, 0.3):
        graph.ndata["pos"] = torch.full((2, 2), at)
        assert whole(graph, (1, 1)) is None
        assert whole(graph, (3, 3)) is None
        graph.edata["tap"] = graph.edata["tap"].clone()
        assert whole(graph) is None
    empty = dgl.graph(([], []), num_nodes=3)
    empty.edata["tap"] = torch.zeros(0, dtype=torch.int64)
    assert whole(empty) is None


def test_scaled_positions_of_a_lattice_change_nothing():
    graph = lattice((9, 9), 3)
    graph.srcdata["pos"] /= 9
    assert whole(graph, (3, 3)) == (Window.of((9, 9), 3), 1, False)


def test_taps_under_inference_mode():
    graph = lattice((5, 5), 3)
    with torch.inference_mode():
        graph.edata["tap"] = graph.edata["tap"].clone()
        assert whole(graph) is not None


def test_cache(monkeypatch):
    graph = dgl.batch([lattice((6, 6), 3)] * 2)
    match = whole(graph, (3, 3))
    monkeypatch.setattr("gnnlib.grid.dense._match", None)
    assert whole(graph, (3, 3)) is match
    assert whole(graph.local_var(), (3, 3)) is match
    assert whole(lattice((11, 11), 3), (3, 3)) is not None  # known from birth
