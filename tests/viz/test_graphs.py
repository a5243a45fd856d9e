"""What is drawn are the graph's own lines, widths and values."""

import numpy as np
import pytest
import torch

from gnnlib import viz as pictures
from gnnlib._platform.dgl import dgl
from gnnlib.images import graph_from_labels, hierarchy, paint, pixel_graph, superpixel_graph

figure_module = pytest.importorskip("matplotlib.figure")
RNG = np.random.default_rng(0)
LABELS = np.kron([[0, 1], [0, 2]], np.ones((3, 3), int))
IMAGE = RNG.random((6, 6, 3))


def shown(ax) -> np.ndarray:
    (image,) = ax.images
    return np.ma.filled(image.get_array().astype(float), np.nan)


def graph_at(pos, *edges):
    graph = dgl.graph(list(edges), num_nodes=len(pos))
    graph.ndata["pos"] = torch.tensor(pos, dtype=torch.float32)
    return graph


def test_an_edge_is_one_line_whichever_way_it_runs_and_a_loop_is_none():
    graph = graph_at([[0, 0], [1, 5], [3, 2]], (0, 1), (1, 0), (1, 2), (2, 2), (2, 1), (1, 2))
    weight = torch.tensor([0.1, 0.4, 0.2, 9.0, 0.8, 0.0])
    ax = pictures.show_graph(graph, np.zeros((4, 6)), weight)
    lines, dots = ax.collections
    assert [line.tolist() for line in lines.get_segments()] == [[[0, 0], [5, 1]], [[5, 1], [2, 3]]], "x, y"
    np.testing.assert_allclose(lines.get_linewidths(), [1.5, 3.0], err_msg="half as wide as the widest")
    assert dots.get_offsets().tolist() == [[0, 0], [5, 1], [2, 3]]
    assert ax.get_ylim() == (3.5, -0.5)
    (plain, _) = pictures.show_graph(graph, np.zeros((4, 6))).collections
    assert len(set(plain.get_linewidths())) == 1


def test_the_lines_of_superpixels_are_their_edges():
    graph = superpixel_graph(RNG.random((20, 20)), 12)
    lines, _ = pictures.show_graph(graph, weight=graph.edata["weight"]).collections
    pos = graph.ndata["pos"].flip(1)
    expected = {}
    for u, v, w in zip(*(end.tolist() for end in graph.edges()), graph.edata["weight"].tolist()):
        expected[min(u, v), max(u, v)] = max(w, expected.get((min(u, v), max(u, v)), 0))
    segments = np.array(lines.get_segments())
    np.testing.assert_allclose(segments, np.stack([pos[list(pair)].numpy() for pair in sorted(expected)]))
    widths = np.array([expected[pair] for pair in sorted(expected)])
    np.testing.assert_allclose(lines.get_linewidths(), 3 * widths / widths.max(), rtol=1e-6)


@pytest.mark.parametrize("pos", [torch.tensor([[0.0, 0.0], [2.0, 2.0]]), torch.zeros(0, 2)])
def test_a_graph_without_edges_or_without_nodes(pos):
    graph = dgl.graph([], num_nodes=len(pos))
    graph.ndata["pos"] = pos
    lines, dots = pictures.show_graph(graph, weight=torch.zeros(0)).collections
    lines.figure.canvas.draw()
    assert (len(lines.get_segments()), len(dots.get_offsets())) == (0, len(pos))


def test_show_graph_on_existing_axes():
    ax = pictures.show_regions(IMAGE, LABELS)
    graph = graph_from_labels(IMAGE, LABELS)
    limits = ax.get_xlim(), ax.get_ylim()
    assert pictures.show_graph(graph, ax=ax) is ax
    assert (ax.get_xlim(), ax.get_ylim()) == limits
    assert (len(ax.images), len(ax.collections)) == (1, 3)
    alone = pictures.show_graph(graph)
    assert alone.yaxis_inverted(), "rows go down"


@pytest.mark.parametrize("channels", [1, 3, 5])
def test_borders_run_between_the_regions(channels):
    image = RNG.random((6, 6, channels))
    graph = graph_from_labels(image, LABELS)
    ax = pictures.show_regions(image, graph)
    np.testing.assert_allclose(shown(ax), image if channels == 3 else image.mean(2))
    (lines,) = ax.collections
    across = [[(column - 0.5, 2.5), (column + 0.5, 2.5)] for column in (3, 4, 5)]
    down = [[(2.5, row - 0.5), (2.5, row + 0.5)] for row in range(6)]
    assert np.array(lines.get_segments()).tolist() == np.array(across + down).tolist()
    again = pictures.show_regions(image, graph.label_map)
    assert np.array(again.collections[0].get_segments()).tolist() == np.array(lines.get_segments()).tolist()


def test_values_are_painted_back():
    graph = graph_from_labels(IMAGE, LABELS)
    ax = pictures.show_values(graph, torch.tensor([1.0, 0.0, 4.0]))
    np.testing.assert_array_equal(shown(ax), np.array([1.0, 0.0, 4.0])[LABELS])
    assert ax.images[0].get_clim() == (0, 4)
    signed = pictures.show_values(torch.from_numpy(LABELS), torch.tensor([1.0, 0.0, -4.0], requires_grad=True))
    assert signed.images[0].get_clim() == (-4, 4)
    assert pictures.show_values(graph, torch.zeros(3)).images[0].get_clim() == (0, 1)


def test_pixels_outside_a_mask_stay_empty():
    mask = np.ones((4, 5), bool)
    mask[1, 2] = False
    graph = pixel_graph(RNG.random((4, 5)), mask=mask)
    ax = pictures.show_values(graph, torch.arange(19.0))
    assert np.argwhere(np.isnan(shown(ax))).tolist() == [[1, 2]]
    assert len(pictures.show_regions(np.zeros((4, 5)), graph).collections[0].get_segments()) == 4 * 4 + 3 * 5


@pytest.mark.parametrize("channels", [1, 3])
def test_levels_are_the_hierarchys_mean_colours(channels):
    image = RNG.random((12, 12, channels))
    tree = hierarchy(image, np.arange(144).reshape(12, 12) // 6)
    drawn = pictures.show_levels(tree, [7, 3])
    graphs = [tree.graph, *(level.graph for level in tree.levels([7, 3]))]
    assert [ax.get_title() for ax in drawn] == ["24 regions", "7 regions", "3 regions"]
    for ax, graph in zip(drawn, graphs):
        np.testing.assert_allclose(shown(ax), paint(graph, graph.ndata["feat"]).numpy().squeeze())


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: pictures.show_regions(np.zeros((5, 6)), LABELS), ValueError, r"shape \(5, 6\), got \(6, 6\)"),
        (lambda: pictures.show_regions(np.zeros(5), LABELS), ValueError, "expected 2 axes"),
        (lambda: pictures.show_regions(IMAGE, dgl.graph([], num_nodes=3)), TypeError, "pass the label map"),
        (lambda: pictures.show_values(LABELS, torch.zeros(3, 1)), ValueError, r"shape \(n,\).*got \(3, 1\)"),
        (lambda: pictures.show_values(LABELS, torch.zeros(4)), ValueError, "expected 3 rows"),
        (lambda: pictures.show_graph(dgl.graph([], num_nodes=3)), KeyError, "got ndata with"),
        (lambda: pictures.show_graph(graph_at([[0, 0, 0]])), ValueError, r"\(n, 2\), rows and columns, got \(1, 3\)"),
        (
            lambda: pictures.show_graph(graph_at([[0, 0], [1, 1]], (0, 1)), weight=torch.tensor([-1.0])),
            ValueError,
            r"at least 0, got \(1,\) and values from -1 to -1",
        ),
        (
            lambda: pictures.show_graph(graph_at([[0, 0], [1, 1]], (0, 1)), weight=torch.ones(2)),
            ValueError,
            r"expected shape \(1,\)",
        ),
        (lambda: pictures.show_levels(hierarchy(IMAGE, LABELS), [1], axes=[]), ValueError, "axes: expected 2, got 0"),
    ],
)
def test_bad_input(call, error, message):
    with pytest.raises(error, match=message):
        call()
