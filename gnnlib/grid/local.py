"""Locally connected layers: a convolution whose weights are not shared between windows."""

from math import prod

import torch
from torch import Tensor, nn

from gnnlib._utils.calls import names_checked
from gnnlib.graph import GraphLike, adjacency, takes_graph
from gnnlib.graph._check import check_graph
from gnnlib.grid.conv import divisor_of_widths
from gnnlib.grid.window import Window
from gnnlib.nn.conv.base import Conv, Features, empty
from gnnlib.ops import gather_src
from gnnlib.ops.autograd.sums import sum_edges

__all__ = ["LocalConv", "parameters"]


class LocalConv(Conv):
    r"""Locally connected layer (LeCun 1989, "Generalization and Network Design Strategies"; Goodfellow et al. 2016,
    "Deep Learning", section 9.5): a weight for each edge of one graph, shared with none,

    .. math:: y_v = \sum_{u \to v} x_u W_{u \to v} + c_v

    Memory: an output for each edge.

    Differs from the text: nothing. A node without in-edges gets c. Weights are initialised as those of a convolution
    with as many taps as a node has in-edges on average.

    Args:
        graph: the graph of the layer, such as a :func:`gnnlib.grid.lattice`, or a batch of such
        in_feats: width of the node features
        out_feats: width of the output
        groups: number of groups; each group of outputs depends on its own group of inputs only
        bias: whether to add c, one for each node and output

    Shapes:
        - x: (N, \*, in_feats)
        - edge: None
        - weight: (E, in_feats / groups, out_feats)
        - bias: (N_out, out_feats)
        - output: (N_out, \*, out_feats)

    Raises:
        ValueError: if an argument is out of range, widths are not divisible by groups, a shape is wrong, or a graph
            has another number of edges or nodes
        TypeError: if x is no floating-point tensor, or ``graph`` no graph of one edge type

    Example:
        >>> import torch
        >>> from gnnlib.grid import LocalConv, lattice
        >>> g = lattice((6, 6), 3)
        >>> LocalConv(g, 2, 5)(g, torch.ones(36, 7, 2)).shape
        torch.Size([16, 7, 5])
    """

    @takes_graph()
    def __init__(self, graph: GraphLike, in_feats: int, out_feats: int, *, groups: int = 1, bias: bool = True):
        super().__init__(in_feats, out_feats)
        check_graph("LocalConv", graph)
        self.groups, self.num_dst = divisor_of_widths(self, groups), graph.num_dst_nodes()
        self.weight = empty(graph.num_edges(), self.in_feats // self.groups, self.out_feats)
        self.bias = empty(self.num_dst, self.out_feats) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw weights uniformly within 1 / sqrt(fan_in); c is 0."""
        num_edges, width = self.weight.shape[:2]
        fan_in = max(1.0, width * num_edges / max(1, self.num_dst))
        nn.init.uniform_(self.weight, -(fan_in**-0.5), fan_in**-0.5)
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def forward(self, graph: GraphLike, x: Features, edge: Tensor | None = None) -> Tensor:
        """Apply the layer.

        Args:
            graph: the graph of the layer, or a batch of such
            x: node features
            edge: must be None

        Shapes:
            as of the class

        Returns:
            the features of the destinations
        """
        x, _ = self.src_features(graph, x)
        self.check_edge(graph, edge)
        copies = graph.num_dst_nodes() // max(1, self.num_dst)
        expected = copies * self.num_dst, copies * len(self.weight)
        if expected != (graph.num_dst_nodes(), graph.num_edges()):
            raise ValueError(
                f"LocalConv: expected copies of a graph with {self.num_dst} destinations and {len(self.weight)} edges, "
                f"got {graph.num_dst_nodes()} and {graph.num_edges()}"
            )
        signals, feats = x.shape[1:-1], self.weight.shape[1]
        feat_src = gather_src(graph, x).reshape(copies, len(self.weight), signals.numel(), self.groups, feats)
        message = torch.einsum("cesgf,efgo->cesgo", feat_src, self.weight.unflatten(2, (self.groups, -1)))
        y = sum_edges(adjacency(graph, x.device), message.flatten(2).flatten(0, 1))
        if self.bias is not None:
            y = y.view(copies, self.num_dst, signals.numel(), self.out_feats) + self.bias.unsqueeze(1)
        return y.view(copies * self.num_dst, *signals, self.out_feats)


@names_checked()
def parameters(window: Window, in_feats: int = 1, out_feats: int = 1, bias: bool = False) -> dict[str, int]:
    """Number of parameters that connect the input of a window to its output, by kind of layer.

    Args:
        window: the window
        in_feats: width of the input
        out_feats: width of the output
        bias: whether to count biases

    Returns:
        "dense": a weight from every cell to every cell; "local": a weight per edge (`LocalConv`); "shared": a weight
        per tap (`GridConv`)

    Example:
        The difference of neighbouring pixels of a 280 x 320 image (Goodfellow et al. 2016, "Deep Learning", figure
        9.6):

        >>> from gnnlib.grid import Window, parameters
        >>> parameters(Window.of((280, 320), (1, 2)))
        {'dense': 8003072000, 'local': 178640, 'shared': 2}
    """
    cells, outputs = prod(window.size), prod(window.out_size)
    edges = prod(int(((axis >= 0) & (axis < n)).sum()) for axis, n in zip(window.cells(), window.size))
    weights = {"dense": cells * outputs, "local": edges, "shared": window.taps}
    biases = {"dense": outputs, "local": outputs, "shared": 1}
    return {name: (count * in_feats + bias * biases[name]) * out_feats for name, count in weights.items()}
