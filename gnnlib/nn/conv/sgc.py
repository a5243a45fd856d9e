"""Simplified graph convolution: propagate k times, then one linear map."""

from collections.abc import Sequence
from typing import ClassVar

from torch import Tensor, nn

from gnnlib._platform.dgl import dgl
from gnnlib.nn.conv.base import Conv, Features
from gnnlib.ops import propagate
from gnnlib.ops.linear import Linear


class SGConv(Conv):
    r"""Simplified graph convolution (Wu et al. 2019, arXiv 1902.07153, equation 8, before the softmax).

    .. math:: Y = (D^{-1/2} A D^{-1/2})^k X W + c

    Args:
        in_feats, out_feats: widths
        k: number of hops, 0 or more
        norm: as in `GCNConv`
        degrees: "unweighted", "weighted" or "in" (`gnnlib.ops.degree_norm`). None does as ``dgl.nn.SGConv``: with
            edge weights their sums; without, in-edges counted at both ends (in blocks, where the
            in-edges of sources are not known, "unweighted")
        bias: whether to add c

    Shapes: graph is a DGLGraph or a list of k blocks; x (N, \*, in_feats); edge None or weights (E,), or one such
    for each block; returns (N_dst, \*, out_feats).

    Raises: ValueError or TypeError, naming expected and received, for x or edge of a wrong shape or dtype, a
    number of blocks other than k, or one block and k > 1.

    Differs from the paper: self-loops are the caller's. A node without in-edges gets c (for k > 0).
    State dicts of ``dgl.nn.SGConv`` load.

    >>> import torch
    >>> g = dgl.add_self_loop(dgl.graph(([0, 1], [1, 0])))
    >>> SGConv(3, 2, k=2)(g, torch.ones(2, 3)).shape
    torch.Size([2, 2])
    """

    takes_edge: ClassVar[str | None] = "weight"

    def __init__(
        self,
        in_feats: int,
        out_feats: int,
        k: int = 1,
        norm: str = "both",
        degrees: str | None = None,
        bias: bool = True,
    ):
        super().__init__(in_feats, out_feats)
        if not isinstance(k, int) or k < 0:
            raise ValueError(f"SGConv: expected k >= 0, got {k}")
        self.k, self.norm, self.degrees = k, norm, degrees
        self.fc = Linear(in_feats, out_feats, bias=bias)
        nn.init.xavier_uniform_(self.fc.weight)
        if bias:
            nn.init.zeros_(self.fc.bias)

    def forward(
        self,
        graph: dgl.DGLGraph | Sequence[dgl.DGLGraph],
        x: Features,
        edge: Tensor | Sequence[Tensor] | None = None,
    ) -> Tensor:
        hops = self._hops(graph)
        edges = edge if isinstance(edge, (list, tuple)) else [edge] * len(hops)
        if len(edges) != len(hops):
            raise ValueError(f"SGConv: expected {len(hops)} edge weights, one for each hop, got {len(edges)}")
        if not hops and isinstance(graph, dgl.DGLGraph):  # otherwise each hop checks its own
            self.ends(graph, x)
            self.check_edge(graph, edge)  # type: ignore[arg-type]
        for hop, weight in zip(hops, edges, strict=True):
            x, _ = self.ends(hop, x)
            self.check_edge(hop, weight)
            x = propagate(hop, x, weight, self.norm, self._which(hop, weight))
        return self.fc(x[0] if isinstance(x, tuple) else x)

    def _hops(self, graph: dgl.DGLGraph | Sequence[dgl.DGLGraph]) -> list[dgl.DGLGraph]:
        if not isinstance(graph, dgl.DGLGraph):
            if len(graph) != self.k:
                raise ValueError(f"SGConv: expected {self.k} blocks, one for each hop, got {len(graph)}")
            return list(graph)
        if self.k > 1 and not graph.is_homogeneous:
            raise ValueError(f"SGConv: expected a whole graph or a list of {self.k} blocks, got one of two node sets")
        return [graph] * self.k

    def _which(self, hop: dgl.DGLGraph, weight: Tensor | None) -> str:
        if self.degrees is not None:
            return self.degrees
        if weight is not None:
            return "weighted"
        return "in" if hop.is_homogeneous else "unweighted"
