"""Locally connected layers: a convolution whose weights are not shared between windows."""

from math import prod

import torch
from torch import Tensor, nn

from gnnlib._platform.dgl import dgl
from gnnlib.graph import adjacency
from gnnlib.grid.window import Window
from gnnlib.nn.conv.base import Conv, Features, zeros
from gnnlib.ops import gather_src
from gnnlib.ops.autograd.sums import sum_edges

__all__ = ["LocalConv", "parameters"]


class LocalConv(Conv):
    r"""Locally connected layer (LeCun 1989, "Generalization and Network Design Strategies"; Goodfellow et al. 2016,
    "Deep Learning", section 9.5): a weight for each edge of one graph, shared with none,

    .. math:: y_v = \sum_{u \to v} x_u W_{u \to v} + c_v

    Args:
        graph: the one that it is for, say a :func:`gnnlib.grid._lattice`; batches of it will do too
        in_feats, out_feats: widths
        groups: each of so many parts of the outputs sees its own part of the inputs only
        bias: whether to add c, one for each node and output

    Shapes: x (N, \*, in_feats), weight (E, in_feats / groups, out_feats), bias (N_out, out_feats); returns
    (N_out, \*, out_feats). Memory: an output for each edge.

    Raises: ValueError or TypeError, naming expected and received, for widths not divisible by groups, x of a wrong
    shape, or a graph with another number of edges or nodes.

    Differs from the text: nothing. A node without in-edges gets c. Weights start as those of a convolution with as many
    taps as a node has in-edges on average.

    >>> from gnnlib.grid import lattice
    >>> g = lattice((6, 6), 3)
    >>> LocalConv(g, 2, 5)(g, torch.ones(36, 7, 2)).shape
    torch.Size([16, 7, 5])
    """

    def __init__(self, graph: dgl.DGLGraph, in_feats: int, out_feats: int, groups: int = 1, bias: bool = True):
        super().__init__(in_feats, out_feats)
        if groups < 1 or in_feats % groups or out_feats % groups:
            raise ValueError(f"LocalConv: expected widths divisible by groups, got {in_feats} -> {out_feats}, {groups}")
        self.groups, self.num_dst = groups, graph.num_dst_nodes()
        self.weight = nn.Parameter(torch.empty(graph.num_edges(), in_feats // groups, out_feats))
        fan_in = max(1.0, self.weight.shape[1] * graph.num_edges() / max(1, self.num_dst))
        nn.init.uniform_(self.weight, -(fan_in**-0.5), fan_in**-0.5)
        self.bias = zeros(self.num_dst, out_feats) if bias else None

    def forward(self, graph: dgl.DGLGraph, x: Features, edge: Tensor | None = None) -> Tensor:
        x, _ = self.ends(graph, x)
        self.check_edge(graph, edge)
        copies = graph.num_dst_nodes() // max(1, self.num_dst)
        wanted = copies * self.num_dst, copies * len(self.weight)
        if wanted != (graph.num_dst_nodes(), graph.num_edges()):
            raise ValueError(
                f"LocalConv: expected copies of a graph with {self.num_dst} destinations and {len(self.weight)} edges, "
                f"got {graph.num_dst_nodes()} and {graph.num_edges()}"
            )
        signals, feats = x.shape[1:-1], self.weight.shape[1]
        seen = gather_src(graph, x).reshape(copies, len(self.weight), signals.numel(), self.groups, feats)
        message = torch.einsum("cesgf,efgo->cesgo", seen, self.weight.unflatten(2, (self.groups, -1)))
        y = sum_edges(adjacency(graph, x.device), message.flatten(2).flatten(0, 1))
        if self.bias is not None:
            y = y.view(copies, self.num_dst, signals.numel(), self.out_feats) + self.bias.unsqueeze(1)
        return y.view(copies * self.num_dst, *signals, self.out_feats)


def parameters(window: Window, in_feats: int = 1, out_feats: int = 1, bias: bool = False) -> dict[str, int]:
    """How many parameters connect the input of a window to its output: "dense", every cell to every cell; "local", a
    weight for each edge (`LocalConv`); "shared", a weight for each tap (`GridConv`).

    Goodfellow et al. 2016, "Deep Learning", figure 9.6: the difference of neighbouring pixels of a 280 x 320 image.

    >>> parameters(Window.of((280, 320), (1, 2)))
    {'dense': 8003072000, 'local': 178640, 'shared': 2}
    """
    cells, outputs = prod(window.size), prod(window.out_size)
    edges = prod(int(((axis >= 0) & (axis < n)).sum()) for axis, n in zip(window.cells(), window.size))
    weights = {"dense": cells * outputs, "local": edges, "shared": window.taps}
    biases = {"dense": outputs, "local": outputs, "shared": 1}
    return {name: (count * in_feats + bias * biases[name]) * out_feats for name, count in weights.items()}
