"""Graph convolution: the average over neighbours, then a linear map."""

from typing import ClassVar

from torch import Tensor

from gnnlib._platform.dgl import dgl
from gnnlib.nn.conv.base import Conv, Features, add_bias, add_reusing_memory, glorot, zeros
from gnnlib.ops import propagate
from gnnlib.ops.degrees import NORMS
from gnnlib.ops.linear import linear


class GCNConv(Conv):
    r"""Graph convolution (Kipf and Welling 2017, arXiv 1609.02907, equation 2).

    .. math:: y_v = \sum_{u \to v} \frac{w_{uv}}{\sqrt{d_u d_v}} x_u W + c

    with d_u the out-degree of the source and d_v the in-degree of the destination.

    Args:
        in_feats, out_feats: widths
        norm: "both" (the formula), "right" (divide by d_v), "left" (divide by d_u), "none"
        degrees: "unweighted" counts edges (as ``dgl.nn.GraphConv``), "weighted" sums their weights
        weight: False leaves W out: pure propagation, in_feats must equal out_feats
        bias: whether to add c

    Shapes: x (N, \*, in_feats), or a pair whose second part is not used; edge None or weights (E,);
    returns (N_dst, \*, out_feats).

    Raises: ValueError or TypeError, naming expected and received, for x or edge of a wrong shape or dtype.

    Differs from the paper: self-loops are the caller's (``dgl.add_self_loop``). A node without in-edges gets c.
    The order of W and the sum is chosen by width and, where both widths are equal, by whether x needs a gradient.
    State dicts of ``dgl.nn.GraphConv`` load.

    >>> import torch
    >>> g = dgl.add_self_loop(dgl.graph(([0, 1], [1, 0])))
    >>> GCNConv(3, 2)(g, torch.ones(2, 3)).shape
    torch.Size([2, 2])
    """

    takes_edge: ClassVar[str | None] = "weight"

    def __init__(
        self,
        in_feats: int,
        out_feats: int,
        norm: str = "both",
        degrees: str = "unweighted",
        weight: bool = True,
        bias: bool = True,
    ):
        super().__init__(in_feats, out_feats)
        if norm not in NORMS:
            raise ValueError(f"GCNConv: expected norm to be one of {sorted(NORMS)}, got {norm!r}")
        if not weight and in_feats != out_feats:
            raise ValueError(f"GCNConv: without a weight the widths must be equal, got {in_feats} -> {out_feats}")
        self.norm, self.degrees = norm, degrees
        self.weight = glorot(in_feats, out_feats) if weight else None
        self.bias = zeros(out_feats) if bias else None

    def forward(self, graph: dgl.DGLGraph, x: Features, edge: Tensor | None = None) -> Tensor:
        x, _ = self.ends(graph, x)
        self.check_edge(graph, edge)

        def spread(h: Tensor) -> Tensor:
            return propagate(graph, h, edge, self.norm, self.degrees)

        if self.weight is None:
            return add_bias(spread(x), self.bias)
        first = x.shape[-1] > self.out_feats or (x.shape[-1] == self.out_feats and x.requires_grad)
        if first:  # else the sum over neighbours is kept for the gradient of W, and here x, which is kept anyway
            y = spread(linear(x, self.weight.T))
            return y if self.bias is None else add_reusing_memory(y, self.bias)
        return linear(spread(x), self.weight.T, self.bias)
