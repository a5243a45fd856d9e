"""Propagation without weights: to come after any network on the features, or after any layer, for many hops.

Called as ``forward(graph, x, edge=None)`` with x (N, \\*, F), like a layer: in a `GNNLayer`, or as the ``readout`` of a
`Stack`.
"""

from collections.abc import Callable
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor, nn

from gnnlib._platform.dgl import dgl
from gnnlib.ops import aggregate, propagate
from gnnlib.ops.degrees import degree_norm
from gnnlib.ops.linear import Linear

__all__ = ["APPNP", "DAGNN", "Hops"]

Hop = Callable[[Tensor], Tensor]


class _Propagation(nn.Module):
    """k hops of the average over neighbours, both ends normalised by degree: weighted degrees if there are weights."""

    takes_edge: ClassVar[str | None] = "weight"

    def __init__(self, k: int, drop: nn.Module | None = None):
        super().__init__()
        if not isinstance(k, int) or k < 0:
            raise ValueError(f"{type(self).__name__}: expected k >= 0, got {k}")
        self.k, self.drop = k, drop

    def hop(self, graph: dgl.DGLGraph, x: Tensor, edge: Tensor | None) -> Hop:
        if not graph.is_homogeneous:
            raise ValueError(
                f"{type(self).__name__}: expected a whole graph, got one of two node sets with "
                f"{graph.num_src_nodes()} sources and {graph.num_dst_nodes()} destinations"
            )
        if edge is None and self.drop is None:
            return partial(propagate, graph)
        coeff = degree_norm(graph, edge, degrees="unweighted" if edge is None else "weighted", like=x)
        return lambda h: aggregate(graph, h, coeff if self.drop is None else self.drop(coeff))

    def extra_repr(self) -> str:
        return f"k={self.k}"


class Hops(_Propagation):
    r"""Features after 0 to k averages over neighbours, side by side (SIGN: Frasca et al. 2020, arXiv 2004.11198,
    section 3; of SGC's the last alone counts).

    .. math:: H_i = (D^{-1/2} A D^{-1/2})^i X

    Args:
        k: number of hops

    Shapes: x (N, \*, F); edge None or weights (E,); returns (N, \*, k + 1, F).

    Raises: ValueError for k below 0, a graph with two node sets, or x with a wrong number of rows.

    Differs from the paper: self-loops are the caller's. A node without in-edges gets zeros after a hop.

    >>> g = dgl.graph(([0, 1], [1, 0]))
    >>> Hops(2)(g, torch.tensor([[1.0], [2.0]])).squeeze(-1).tolist()
    [[1.0, 2.0, 1.0], [2.0, 1.0, 2.0]]
    """

    def __init__(self, k: int):
        super().__init__(k)

    def forward(self, graph: dgl.DGLGraph, x: Tensor, edge: Tensor | None = None) -> Tensor:
        hop, found = self.hop(graph, x, edge), [x]
        for _ in range(self.k):
            found.append(hop(found[-1]))
        return torch.stack(found, -2)


class APPNP(_Propagation):
    r"""Personalised PageRank by power iteration (Gasteiger et al. 2019, arXiv 1810.05997, equation 4).

    .. math:: Z_0 = X, \qquad Z_{i+1} = (1 - \alpha) D^{-1/2} A D^{-1/2} Z_i + \alpha X

    Its limit is PPNP: alpha (1 - (1 - alpha) P)^-1 X. However many hops, each node keeps a share alpha of its own.

    Args:
        k: number of hops
        alpha: the chance to return
        drop: called on the coefficients of the edges (E,) at each hop: ``nn.Dropout(0.5)`` in the paper's runs

    Shapes: x (N, \*, F); edge None or weights (E,); returns (N, \*, F).

    Raises: ValueError for k below 0, a graph with two node sets, or x with a wrong number of rows.

    Differs from the paper: self-loops are the caller's (``dgl.add_self_loop``). A node without in-edges gets
    alpha x_v (for k > 0). Equals ``dgl.nn.APPNPConv``.

    >>> g = dgl.graph(([0, 1], [1, 0]))
    >>> APPNP(k=1, alpha=0.25)(g, torch.tensor([[0.0], [4.0]])).flatten().tolist()
    [3.0, 1.0]
    """

    def __init__(self, k: int = 10, alpha: float = 0.1, drop: nn.Module | None = None):
        super().__init__(k, drop)
        self.alpha = alpha

    def forward(self, graph: dgl.DGLGraph, x: Tensor, edge: Tensor | None = None) -> Tensor:
        hop = self.hop(graph, x, edge)
        y = x
        for _ in range(self.k):
            y = torch.lerp(hop(y), x, self.alpha)
        return y


class DAGNN(_Propagation):
    r"""Deep adaptive propagation (Liu et al. 2020, arXiv 2007.09296): each node weighs its averages over 0 to k hops.

    .. math:: H_i = (D^{-1/2} A D^{-1/2})^i X, \qquad Y = \sum_{i=0}^{k} \sigma(H_i s) \circ H_i

    Args:
        feats: width of x, that of s
        k: number of hops

    Shapes: x (N, \*, feats); edge None or weights (E,); returns (N, \*, feats).

    Raises: ValueError for k below 0, a graph with two node sets, or x with a wrong number of rows.

    Differs from the paper: self-loops are the caller's. A node without in-edges gets its own part alone.

    >>> g = dgl.graph(([0, 1], [1, 0]))
    >>> DAGNN(3, k=8)(g, torch.ones(2, 3)).shape
    torch.Size([2, 3])
    """

    def __init__(self, feats: int, k: int = 10):
        super().__init__(k)
        self.score = Linear(feats, 1, bias=False)

    def forward(self, graph: dgl.DGLGraph, x: Tensor, edge: Tensor | None = None) -> Tensor:
        hop = self.hop(graph, x, edge)
        y = self.score(x).sigmoid() * x
        for _ in range(self.k):
            x = hop(x)
            y = y + self.score(x).sigmoid() * x
        return y
