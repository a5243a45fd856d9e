"""What is drawn are the numbers, and the files that come of it."""

import io
import runpy
import sys

import numpy as np
import pytest
import torch

from gnnlib import GCNConv
from gnnlib import viz as pictures
from gnnlib.grid import GridConv, lattice, matrix
from gnnlib.grid.field import filter_at, receptive_field, shift_invariance
from gnnlib.grid.filters import EDGES, LAPLACIAN, fixed
from gnnlib.images import graph_from_labels, pixel_graph

figure_module = pytest.importorskip("matplotlib.figure")


def shown(ax) -> np.ndarray:
    (image,) = ax.images
    return np.ma.filled(image.get_array().astype(float), np.nan)


def png(ax) -> bytes:
    file = io.BytesIO()
    ax.figure.savefig(file, format="png", dpi=50)
    return file.getvalue()


def test_a_filter_between_its_input_and_its_output():
    image = torch.rand(9, 7)
    before, kernel, after = pictures.show_filter(image, fixed(EDGES))
    np.testing.assert_allclose(shown(before), image)
    np.testing.assert_array_equal(shown(kernel), EDGES)
    expected = matrix(lattice((9, 7), 3, padding=1), np.array(EDGES)) @ image.numpy().ravel()
    np.testing.assert_allclose(shown(after).ravel(), expected, atol=1e-5)
    assert kernel.images[0].get_clim() == (-1, 1)  # white is 0
    assert png(before).startswith(b"\x89PNG")


def test_a_learned_filter_is_drawn_without_gradients():
    drawn = pictures.show_filter(np.eye(6), GridConv(1, 1, (3, 5)))
    assert [shown(ax).shape for ax in drawn] == [(6, 6), (3, 5), (6, 6)]


def test_pooling_side_by_side():
    image = torch.rand(6, 9, dtype=torch.float64)
    before, largest, mean = pictures.show_pooling(image, 3)
    windows = image.numpy().reshape(2, 3, 3, 3)
    np.testing.assert_allclose(shown(before), image)
    np.testing.assert_allclose(shown(largest), windows.max((1, 3)))
    np.testing.assert_allclose(shown(mean), windows.mean((1, 3)))


def test_curves_of_shifts():
    change = shift_invariance(lambda images: images, torch.rand(2, 1, 5, 5), range(4))
    ax = pictures.show_shift_invariance({"pixels": change, "nothing": 0 * change})
    np.testing.assert_allclose(ax.lines[0].get_xydata(), np.stack([np.arange(4), change], 1))
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["pixels", "nothing"]
    assert png(ax)


def test_a_receptive_field_on_its_grid():
    graphs = [lattice((9, 11), 3, dilation=2), lattice((5, 7), 3)]
    ax = pictures.show_receptive_field(graphs, 4)
    np.testing.assert_array_equal(shown(ax).ravel(), receptive_field(graphs, 4))
    assert ax.get_title() == "49 of 99 cells"
    (borders,) = ax.collections
    assert len(borders.get_segments()) == 8 * 11 + 9 * 10  # between neighbours
    assert png(ax)


def test_a_receptive_field_on_superpixels():
    labels = np.kron([[0, 1], [0, 2]], np.ones((3, 3), int))
    graph = graph_from_labels(np.random.default_rng(0).random((6, 6)), labels, k=1)
    ax = pictures.show_receptive_field([graph], 1, torch.from_numpy(labels))
    np.testing.assert_array_equal(shown(ax), receptive_field([graph], 1).numpy()[labels])
    (borders,) = ax.collections
    across = [[(column - 0.5, 2.5), (column + 0.5, 2.5)] for column in (3, 4, 5)]  # x, y
    down = [[(2.5, row - 0.5), (2.5, row + 0.5)] for row in range(6)]
    assert np.array(borders.get_segments()).tolist() == np.array(across + down).tolist()


def test_a_filter_around_its_node():
    graph, conv = pixel_graph((7, 8)), GCNConv(2, 3)
    x, node = torch.randn(56, 2), 3 * 8 + 5
    ax = pictures.show_filter_at(conv, graph, x, node, channel=(2, 1), radius=2)
    np.testing.assert_allclose(shown(ax).ravel(), filter_at(conv, graph, x, node)[2, :, 1])
    assert (ax.get_xlim(), ax.get_ylim()) == ((2.5, 7.5), (5.5, 0.5))
    assert ax.lines[0].get_xydata().tolist() == [[5, 3]]
    assert png(ax)


def test_filter_of_a_grid_layer_is_its_kernel():
    conv = fixed(LAPLACIAN)
    ax = pictures.show_filter_at(conv, lattice((5, 5), 3), torch.zeros(25, 1), 4)
    np.testing.assert_array_equal(shown(ax)[1:4, 1:4], LAPLACIAN)
    assert np.count_nonzero(shown(ax)) == 5


def test_pixels_that_are_cut_out_stay_empty():
    graph = pixel_graph((4, 4))
    graph.remove_nodes([5])
    empty = np.isnan(shown(pictures.show_filter_at(GCNConv(1, 1), graph, torch.zeros(15, 1), 0)))
    assert np.argwhere(empty).tolist() == [[1, 1]]


def test_filters_share_a_scale():
    filters = torch.tensor([1.0, -3.0]).view(2, 1, 1).expand(2, 3, 3)
    drawn = pictures.show_filters(filters)
    assert [ax.images[0].get_clim() for ax in drawn] == [(-3, 3)] * 2
    assert pictures.show_filters(torch.zeros(1, 2, 2))[0].images[0].get_clim() == (-1, 1)


def test_axes_argument():
    axes = figure_module.Figure().subplots(2, 3)
    assert pictures.show_pooling(torch.rand(4, 4), axes=axes[0]) == list(axes[0])
    assert pictures.show_receptive_field([lattice((4, 4), 2)], 0, ax=axes[1, 0]) is axes[1, 0]
    assert not axes[1, 1].has_data()


def test_training_is_an_animation(tmp_path):
    image_module = pytest.importorskip("PIL.Image")
    snapshots = [torch.full((2, 3, 3), float(step)) for step in (1, -4, 2)]
    animation = pictures.animate_filters(snapshots, ["start", "middle", "end"])
    animation.save(tmp_path / "filters.gif", writer="pillow", dpi=40)
    with image_module.open(tmp_path / "filters.gif") as file:
        assert (file.format, file.n_frames) == ("GIF", 3)
        colours = []
        for frame in range(3):
            file.seek(frame)
            pixels = np.asarray(file.convert("RGB")).astype(int)
            colours.append(pixels[pixels.shape[0] // 2, pixels.shape[1] // 4])
    faint, blue, red = colours
    assert blue[2] > blue[0] + 50  # -4 is the lowest on the scale of all frames
    assert red[0] > red[2] + 20
    assert faint.min() > red.min()  # 1 is paler than 2


def test_marked_pixels():
    drawn = pictures.show_filters(torch.randn(2, 5, 7), marks=[(1, 2), (4, 6)])
    assert [ax.lines[0].get_xydata().tolist() for ax in drawn] == [[[2, 1]], [[6, 4]]]
    assert not pictures.show_filters(torch.randn(1, 5, 7))[0].lines
    animation = pictures.animate_filters([torch.eye(4)[None]] * 2, marks=[(3, 0)])
    figure = animation._fig
    assert figure.axes[0].lines[0].get_xydata().tolist() == [[0, 3]]
    animation._draw_was_started = True  # matplotlib warns of an animation that is never drawn
    with pytest.raises(ValueError, match="marks: expected none or 2, one for each filter, got 1"):
        pictures.show_filters(torch.randn(2, 5, 5), marks=[(0, 0)])


def test_no_frame_is_no_animation():
    with pytest.raises(ValueError, match=r"of one shape, got \[\]"):
        pictures.animate_filters([])
    with pytest.raises(ValueError, match=r"got \[\(1, 2, 2\), \(1, 3, 3\)\]"):
        pictures.animate_filters([torch.zeros(1, 3, 3), torch.zeros(1, 2, 2)])
    with pytest.raises(ValueError, match="expected 1, one for each snapshot, got 2"):
        pictures.animate_filters([torch.zeros(1, 3, 3)], ["a", "b"])


BATCH = pixel_graph((3, 3))
BATCH.ndata["pos"] = BATCH.ndata["pos"] + 0.5


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: pictures.show_filter(torch.zeros(3), fixed(EDGES)), ValueError, r"\(rows, columns\), got \(3,\)"),
        (lambda: pictures.show_filter(torch.eye(3), GridConv(1, 2, 3)), ValueError, "one channel.*got GridConv"),
        (lambda: pictures.show_filter(torch.eye(3), fixed([1, 2])), ValueError, "two axes, got GridConv"),
        (lambda: pictures.show_pooling(torch.eye(3), 4), ValueError, "window within the padded input"),
        (lambda: pictures.show_pooling(torch.eye(3), 1, axes=[]), ValueError, "axes: expected 3, got 0"),
        (lambda: pictures.show_filters(torch.eye(3)), ValueError, r"\(F, rows, columns\), got \(3, 3\)"),
        (lambda: pictures.show_receptive_field([lattice(5, 3)], 0), ValueError, "at different pixels of one image"),
        (lambda: pictures.show_receptive_field([BATCH], 0), ValueError, "at different pixels of one image"),
        (
            lambda: pictures.show_receptive_field([pixel_graph((2, 2))], 0, torch.full((3, 3), 4)),
            ValueError,
            "from 0 to 3, got shape",
        ),
    ],
)
def test_bad_input(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_without_matplotlib(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r"pip install 'gnnlib\[bench\]'"):
        pictures.show_filter(torch.eye(3), fixed(EDGES))


def test_matplotlib_is_imported_on_use_and_pyplot_never(monkeypatch):
    had = "matplotlib.pyplot" in sys.modules
    pictures.show_filters(torch.eye(3)[None])[0].figure.canvas.draw()
    assert ("matplotlib.pyplot" in sys.modules) == had
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert runpy.run_path(pictures.__file__)["__all__"] == pictures.__all__
