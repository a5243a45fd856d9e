"""One convolution, read as other layers: what holds between them on whole grids, and for one layer on any grid.

Edge-conditioned layers with one-hot taps and grids with pixels cut out are in ``test_conv.py``, windows of every shape
in ``tests/nn/conv/test_spline.py``.
"""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from gnnlib import ECConv, SplineConv
from gnnlib._platform.dgl import dgl
from gnnlib.grid import GridConv, to_images, to_nodes
from gnnlib.images import pixel_graph


def three_readings(grid):
    """The spline and the edge-conditioned layer with the weights of a GridConv, called as ``f(graph, x)``."""
    out_feats, in_feats, *window = grid.weight.shape
    taps = grid.weight.detach().flatten(2)  # (out, in, K)
    spline = SplineConv(in_feats, out_feats, window, reduce="sum").double()
    spline.load_state_dict({"weight": taps.permute(2, 1, 0), "bias": grid.bias})
    last = nn.Linear(taps.shape[2], in_feats * out_feats, bias=False)
    ecc = ECConv(in_feats, out_feats, taps.shape[2], edge_func=last, reduce="sum").double()
    ecc.load_state_dict({"edge_func.weight": taps.transpose(0, 1).flatten(0, 1), "bias": grid.bias})
    one_hot = F.one_hot(torch.arange(taps.shape[2])).double()
    return [grid, spline, lambda graph, x: ecc(graph, x, one_hot[graph.edata["tap"]])]


@pytest.mark.parametrize("cut", [0.0, 0.3, 0.9])
def test_taps_splines_and_edge_networks_are_one_layer(cut):
    """On a pixel graph, whole or with pixels cut out: torch's convolution of the image with zeros in their place."""
    torch.manual_seed(0)
    grid = GridConv(2, 3, (3, 5)).double()
    mask = torch.rand(9 * 8) >= cut
    graph = dgl.node_subgraph(pixel_graph((9, 8), (3, 5)), mask.nonzero().flatten())
    images = torch.randn(4, 2, 9, 8, dtype=torch.float64) * mask.view(9, 8)
    expected = to_nodes(F.conv2d(images, grid.weight, grid.bias, padding=(1, 2)))[mask]
    for layer in three_readings(grid):
        torch.testing.assert_close(layer(graph, to_nodes(images)[mask]), expected, rtol=0, atol=1e-12)


@pytest.mark.slow
def test_one_layer_on_a_small_and_a_large_image():
    """The same weights on 28 x 28 and on 512 x 512, along the edges and by torch's kernel."""
    torch.manual_seed(0)
    layer = GridConv(1, 3, 3)
    for side in (28, 512):
        graph, image = pixel_graph((side, side)), torch.randn(1, 1, side, side)
        expected = F.conv2d(image, layer.weight, layer.bias, padding=1)
        for layer.dense in (True, False):
            y = to_images(layer(graph, to_nodes(image)), (side, side))
            torch.testing.assert_close(y, expected, rtol=1e-5, atol=1e-5)


def test_half_a_pixel_further_the_spline_has_the_means_of_neighbouring_taps():
    """With a degree of 1 weights vary linearly between the taps: a graph whose sources lie half a column to the right
    sees the means of neighbouring taps."""
    torch.manual_seed(0)
    spline, side = SplineConv(2, 3, 3, reduce="sum").double(), 6
    grid = pixel_graph((side, side))
    src, dst = grid.edges()
    step = grid.ndata["pos"][src] - grid.ndata["pos"][dst]
    keep = step[:, 1] < 1  # half a column on from the last tap would be outside of the window
    graph = dgl.heterograph({("in", "sees", "out"): (src[keep], dst[keep])}, {"in": side**2, "out": side**2})
    graph.nodes["out"].data["pos"] = grid.ndata["pos"]
    graph.nodes["in"].data["pos"] = grid.ndata["pos"] + torch.tensor([0.0, 0.5])
    images = torch.randn(1, 2, side, side, dtype=torch.float64)
    taps = spline.weight.detach().view(3, 3, 2, 3).permute(3, 2, 0, 1)  # (out, in, row, column)
    between = (taps[..., :-1] + taps[..., 1:]) / 2  # at the columns -1/2 and 1/2
    expected = F.conv2d(F.pad(images, (1, 0, 1, 1)), between, spline.bias)
    torch.testing.assert_close(to_images(spline(graph, to_nodes(images)[:, 0]), (side, side)), expected)
