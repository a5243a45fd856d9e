"""Graph isomorphism network: the sum over neighbours, then an MLP."""

from typing import ClassVar

import torch
from torch import Tensor, nn

from gnnlib._dgl import dgl
from gnnlib.convs.base import Conv, Features
from gnnlib.ops import aggregate


class GINConv(Conv):
    r"""Graph isomorphism layer (Xu et al. 2019, arXiv 1810.00826, equation 4.1).

    .. math:: y_v = \mathrm{MLP}\big((1 + \epsilon) x_v + \sum_{u \to v} w_{uv} x_u\big)

    Args:
        in_feats, out_feats: widths
        apply_func: any module from in_feats to out_feats; default Linear, ReLU, Linear
        eps: initial value of epsilon
        learn_eps: whether epsilon is trained
        reduce: "sum" (the paper's), "mean" or "max"

    Shapes: x (N, \*, in_feats) or a pair; edge None or weights (E,); returns (N_dst, \*, out_feats).

    Raises: ValueError or TypeError, naming expected and received, for x or edge of a wrong shape or dtype, or
    where a graph with two node sets comes without a pair.

    Differs from the paper: nothing. A node without in-edges gets MLP((1 + eps) x_v).
    State dicts of ``dgl.nn.GINConv`` load.

    >>> g = dgl.graph(([0, 1], [1, 0]))
    >>> GINConv(3, 2, learn_eps=True)(g, torch.ones(2, 3)).shape
    torch.Size([2, 2])
    """

    takes_edge: ClassVar[str | None] = "weight"
    eps: Tensor

    def __init__(
        self,
        in_feats: int,
        out_feats: int,
        apply_func: nn.Module | None = None,
        eps: float = 0.0,
        learn_eps: bool = False,
        reduce: str = "sum",
    ):
        super().__init__(in_feats, out_feats)
        self.apply_func = apply_func or nn.Sequential(
            nn.Linear(in_feats, out_feats), nn.ReLU(inplace=True), nn.Linear(out_feats, out_feats)
        )
        self.reduce = reduce
        start = torch.tensor([float(eps)])
        if learn_eps:
            self.eps = nn.Parameter(start)
        else:
            self.register_buffer("eps", start)

    def forward(self, graph: dgl.DGLGraph, x: Features, edge: Tensor | None = None) -> Tensor:
        x_src, x_dst = self.both_ends(graph, x)
        self.check_edge(graph, edge)
        if isinstance(x, tuple) or self.eps.requires_grad:
            return self.apply_func((1 + self.eps) * x_dst + aggregate(graph, x_src, edge, self.reduce))
        return self.apply_func(aggregate(graph, x_src, edge, self.reduce, own=1 + self.eps.item()))
