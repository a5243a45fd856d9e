"""Graph convolution: a degree-normalised sum over neighbours, then a linear map."""

from collections.abc import Callable
from typing import ClassVar

from torch import Tensor, nn

from gnnlib.graph import GraphLike
from gnnlib.nn._arguments import one_of
from gnnlib.nn.conv.base import Conv, Features, add_bias, add_reusing_memory, empty
from gnnlib.ops import propagate
from gnnlib.ops.degrees import DEGREES, NORMS
from gnnlib.ops.linear import linear


class GCNConv(Conv):
    r"""Graph convolution (Kipf and Welling 2017, arXiv 1609.02907, equation 2).

    .. math:: y_v = \sum_{u \to v} \frac{w_{uv}}{\sqrt{d_u d_v}} x_u W + c

    with d_u the out-degree of the source and d_v the in-degree of the destination.

    Differs from the paper: self-loops are the caller's (``dgl.add_self_loop``). A node without in-edges gets c.
    The order of W and the sum is chosen by width and, where both widths are equal, by whether x needs a gradient.
    State dicts of ``dgl.nn.GraphConv`` load. In a sample of the neighbours ``norm="both"`` uses the degrees of the
    sample, as DGL's and PyG's layers do, which are not those of the graph: train with ``norm="right"`` and the edge
    weights `gcn_edge_weights`, which estimate the layer on the whole graph without bias.

    Args:
        in_feats: width of the node features
        out_feats: width of the output
        norm: "both" (the formula), "right" (divide by d_v), "left" (divide by d_u), "none"
        degrees: "unweighted" counts edges (as ``dgl.nn.GraphConv``), "weighted" sums their weights, "in" takes
            the in-edges at both ends, their sum with weights and their number without, as PyTorch Geometric on
            directed graphs
        weight: False leaves W out: pure propagation, in_feats must equal out_feats
        bias: whether to add c

    Shapes:
        - x: (N, \*, in_feats), or a pair whose second part is not used
        - edge: weights (E,) or (E, 1), or None
        - output: (N_dst, \*, out_feats)

    Raises:
        ValueError: if an argument is out of range, or a shape is wrong
        TypeError: if x or edge is no floating-point tensor

    Example:
        >>> import torch
        >>> from gnnlib import GCNConv
        >>> import dgl
        >>> g = dgl.add_self_loop(dgl.graph(([0, 1], [1, 0])))
        >>> GCNConv(3, 2)(g, torch.ones(2, 3)).shape
        torch.Size([2, 2])
    """

    takes_edge: ClassVar[str | None] = "weight"

    def __init__(
        self,
        in_feats: int,
        out_feats: int,
        *,
        norm: str = "both",
        degrees: str = "unweighted",
        weight: bool = True,
        bias: bool = True,
    ):
        super().__init__(in_feats, out_feats)
        self.norm = one_of(self, "norm", norm, NORMS)
        self.degrees = one_of(self, "degrees", degrees, DEGREES)
        if not weight and self.in_feats != self.out_feats:
            raise ValueError(f"GCNConv: expected equal widths without a weight, got {in_feats} -> {out_feats}")
        self.weight = empty(self.in_feats, self.out_feats) if weight else None
        self.bias = empty(self.out_feats) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw W as Glorot and Bengio (2010) do; c is 0."""
        if self.weight is not None:
            nn.init.xavier_uniform_(self.weight)
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def forward(self, graph: GraphLike, x: Features, edge: Tensor | None = None) -> Tensor:
        """Apply the layer.

        Args:
            graph: a graph, a block or a bipartite graph
            x: node features
            edge: edge weights

        Shapes:
            as of the class

        Returns:
            the features of the destinations
        """
        x, _ = self.src_features(graph, x)
        edge = self.check_edge(graph, edge)

        def sum_neighbors(h: Tensor) -> Tensor:
            return propagate(graph, h, edge, self.norm, self.degrees)

        return graph_convolution(x, self.weight, self.bias, sum_neighbors)


def graph_convolution(
    x: Tensor, weight: Tensor | None, bias: Tensor | None, sum_neighbors: Callable[[Tensor], Tensor]
) -> Tensor:
    """The sum over neighbours of x W, plus the bias, in the cheaper order of both.

    Args:
        x: features of the sources, (N, \\*, F)
        weight: W, (F, O); None: no product
        bias: (O,), or None
        sum_neighbors: the sum, for features of any width

    Returns:
        The features of the destinations.
    """
    if weight is None:
        return add_bias(sum_neighbors(x), bias)
    in_feats, out_feats = weight.shape
    if in_feats > out_feats or (in_feats == out_feats and x.requires_grad):
        y = sum_neighbors(linear(x, weight.T))
        return y if bias is None else add_reusing_memory(y, bias)
    # The sum is kept for the gradient of W, where the other order keeps x, which is there anyway.
    return linear(sum_neighbors(x), weight.T, bias)
