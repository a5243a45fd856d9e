"""Lattices: literal small ones, what they survive, and the matrices that they are."""

import itertools

import numpy as np
import pytest
import scipy.signal
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits

from gnnlib._platform.dgl import dgl
from gnnlib.grid import Window, adaptive_lattice, lattice, matrix, transposed_lattice
from gnnlib.images import pixel_graph


def edges(graph):
    return list(zip(*(end.tolist() for end in graph.edges(order="eid")), graph.edata["tap"].tolist()))


def frames(graph):
    return {
        **{f"in {key}": value for key, value in graph.nodes["in"].data.items()},
        **{f"out {key}": value for key, value in graph.nodes["out"].data.items()},
        **dict(graph.edata),
    }


def test_a_strided_padded_dilated_window_by_hand():
    graph = lattice(5, 2, stride=2, padding=1, dilation=2)
    assert edges(graph) == [(1, 0, 1), (1, 1, 0), (3, 1, 1), (3, 2, 0)]
    assert graph.canonical_etypes == [("in", "tap", "out")]
    assert graph.nodes["in"].data["pos"].flatten().tolist() == [0, 1, 2, 3, 4]
    assert graph.nodes["out"].data["pos"].flatten().tolist() == [0, 2, 4]
    assert graph.nodes["out"].data["area"].tolist() == [2, 2, 2]
    assert (graph.edata["tap"].dtype, graph.nodes["out"].data["pos"].dtype) == (torch.int64, torch.float32)


def test_edges_and_taps():
    for stride, dilation, (before, after) in itertools.product((1, 2, 3), (1, 2), ((0, 0), (2, 1), (0, 3))):
        graph = lattice((5, 4), (2, 3), stride, ((before, after), (1, 1)), dilation)
        into = graph.nodes["in"].data["pos"][graph.edges()[0]]
        middle = graph.nodes["out"].data["pos"][graph.edges()[1]]
        tap = torch.stack([graph.edata["tap"] // 3, graph.edata["tap"] % 3], 1)
        assert torch.equal(into, middle + dilation * (tap - torch.tensor([0.5, 1.0])))
        order = torch.stack([graph.edges()[1], graph.edata["tap"]], 1).tolist()
        assert order == sorted(order)


def test_a_cell_at_the_border_sees_fewer():
    graph = lattice((28, 28), 3, padding=1)
    assert graph.in_degrees().bincount().tolist() == [0] * 4 + [4, 0, 104, 0, 0, 676]
    assert edges(graph) == edges(pixel_graph((28, 28)))


def test_ceil_mode_counts_the_padded_input_as_torch_divides():
    x = torch.ones(1, 1, 7, 7, dtype=torch.float64)
    graph = lattice((7, 7), 4, stride=3, padding=1, ceil_mode=True)
    expected = F.avg_pool2d(x, 4, 3, 1, ceil_mode=True)
    data = graph.nodes["out"].data
    assert torch.equal(graph.in_degrees() / data["area"].double(), expected.flatten())
    assert data["area"].min() < 16


def test_adaptive_windows():
    graph = adaptive_lattice((5, 3), (3, 1))
    assert graph.in_degrees().tolist() == [6, 9, 6]
    assert graph.nodes["out"].data["pos"].tolist() == [[0.5, 1], [2, 1], [3.5, 1]]
    assert edges(adaptive_lattice((6, 4), (3, 2))) == edges(lattice((6, 4), 2, stride=2))
    with pytest.raises(ValueError, match=r"out_size: expected one number, or one for each of 2 axes, got \(1, 1, 1\)"):
        adaptive_lattice((5, 3), (1, 1, 1))


# ---------------------------------------------------------------- a DGL graph like others


@pytest.mark.parametrize("idtype", [torch.int32, torch.int64])
def test_survives_being_reversed_batched_saved_and_loaded(idtype, tmp_path):
    graph = lattice((5, 4), 3, stride=2, padding=1, ceil_mode=True, idtype=idtype)
    assert graph.idtype == idtype

    back = dgl.reverse(graph, copy_ndata=True, copy_edata=True)
    assert back.canonical_etypes == [("out", "tap", "in")]
    assert [(v, u, t) for u, v, t in edges(back)] == edges(graph)

    batch = dgl.batch([graph, graph])
    rows = {"in": 20, "out": graph.num_nodes("out")}
    moved = [(u + rows["in"], v + rows["out"], t) for u, v, t in edges(graph)]
    assert edges(batch) == edges(graph) + moved

    dgl.save_graphs(str(tmp_path / "graphs"), [graph, back])
    loaded = dgl.load_graphs(str(tmp_path / "graphs"))[0]
    for one, other in [(graph, loaded[0]), (back, loaded[1]), (graph, back), *((graph, g) for g in dgl.unbatch(batch))]:
        assert (edges(one) == edges(other)) == (one.canonical_etypes == other.canonical_etypes)
        assert frames(one).keys() == frames(other).keys() == {"in pos", "out pos", "out area", "tap"}
        assert all(torch.equal(value, frames(other)[key]) for key, value in frames(one).items())


def test_built_once_with_positions_to_spare():
    first = lattice((6, 6), 3)
    first.nodes["in"].data["pos"] *= 100
    first.edata["more"] = torch.zeros(first.num_edges())
    second = lattice((6, 6), 3)
    assert first._graph is second._graph
    assert second.nodes["in"].data["pos"].max() == 5
    assert list(second.edata) == ["tap"]


def test_built_under_inference_mode_used_in_training():
    with torch.inference_mode():
        graphs = lattice((3, 7), 2), transposed_lattice((3, 7), 2), adaptive_lattice((3, 7), 2)
    assert not any(graph.edata["tap"].is_inference() for graph in graphs)


# ---------------------------------------------------------------- the matrix


def test_the_toeplitz_matrix():
    assert matrix(lattice(5, 3), np.array([1, 2, 3])).toarray().tolist() == [
        [1, 2, 3, 0, 0],
        [0, 1, 2, 3, 0],
        [0, 0, 1, 2, 3],
    ]


def test_the_transpose_is_the_transposed_convolution():
    generator = torch.Generator().manual_seed(0)
    for arguments in ((4, 3, 2, 1, 1), ((3, 2), 3, 2, 0, 1), ((3, 4), (2, 3), 1, (1, 0), 0, (1, 2))):
        graph = transposed_lattice(*arguments)
        window = Window.transposed(*arguments)
        kernel = torch.rand(window.kernel_size, generator=generator, dtype=torch.float64)
        there = matrix(graph, kernel)
        assert (there != matrix(dgl.reverse(graph, copy_edata=True), kernel).T).nnz == 0
        x = torch.rand(window.out_size, generator=generator, dtype=torch.float64)
        transpose = (F.conv_transpose1d, F.conv_transpose2d)[x.dim() - 1]
        pads = tuple(before for before, _ in window.padding)
        y = transpose(x[None, None], kernel[None, None], None, window.stride, pads, arguments[4], 1, window.dilation)
        np.testing.assert_allclose(there @ x.flatten().numpy(), y.flatten(), rtol=0, atol=1e-13)


@pytest.mark.parametrize(("padding", "mode"), [("narrow", "valid"), ("wide", "full"), ("equal", "same")])
@pytest.mark.parametrize(("size", "kernel"), [((9,), (3,)), ((7, 6), (3, 5)), ((5, 4, 6), (3, 1, 3))])
def test_with_the_rotated_kernel_it_is_convolution(padding, mode, size, kernel):
    rng = np.random.default_rng(0)
    x, taps = rng.normal(size=size), rng.normal(size=kernel)
    got = matrix(lattice(size, kernel, padding=padding), np.flip(taps)) @ x.ravel()
    expected = scipy.signal.convolve(x, taps, mode, method="direct")
    np.testing.assert_allclose(got, expected.ravel(), rtol=0, atol=1e-13)


def test_a_gabor_filter_on_a_seven_three_ways():
    digits = load_digits()
    seven = np.pad(np.kron(digits.images[digits.target == 7][0] / 16, np.ones((3, 3))), 2)
    assert seven.shape == (28, 28)
    y, x = np.indices((9, 9)) - 4.0
    along = np.cos(0.6) * x + np.sin(0.6) * y
    gabor = np.exp(-(x**2 + y**2) / 8) * np.cos(2 * np.pi * along / 4)

    by_graph = matrix(lattice((28, 28), 9, padding="wide"), np.flip(gabor)) @ seven.ravel()

    side = 28 + 9 - 1  # on a torus this large nothing meets itself: the doubly circulant matrix
    first = np.zeros((side, side))
    first[:9, :9] = gabor
    shift = (np.arange(side)[:, None] - np.arange(side)) % side
    circulant = first[shift[:, None, :, None], shift[None, :, None, :]].reshape(side**2, side**2)
    by_circulant = circulant @ np.pad(seven, (0, 8)).ravel()

    by_scipy = scipy.signal.convolve2d(seven, gabor, "full").ravel()
    np.testing.assert_allclose(by_graph, by_scipy, rtol=0, atol=1e-12)
    np.testing.assert_allclose(by_circulant, by_scipy, rtol=0, atol=1e-12)
    assert np.abs(by_scipy).max() > 1


def test_a_kernel_with_too_few_taps_or_a_graph_without():
    with pytest.raises(ValueError, match="taps: expected numbers from 0 to 1, got 0 to 2"):
        matrix(lattice(5, 3), np.ones(2))
    with pytest.raises(KeyError, match="tap"):
        matrix(dgl.graph(([0], [1])), np.ones(2))
