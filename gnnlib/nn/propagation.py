"""Propagation without weights: many hops after any network on the features, or after any layer.

Called as ``forward(graph, x, edge=None)`` with x (N, \\*, F), like a layer: in a `GNNLayer`, or as the ``readout`` of a
`Stack`.
"""

from collections.abc import Callable
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor, nn

from gnnlib.graph import GraphLike
from gnnlib.graph._check import check_one_node_set
from gnnlib.nn._arguments import Arguments, integer, one_of, probability
from gnnlib.ops import aggregate, propagate
from gnnlib.ops.degrees import DEGREES, degree_norm
from gnnlib.ops.linear import Linear

__all__ = ["APPNP", "DAGNN", "Hops"]

Hop = Callable[[Tensor], Tensor]


class _Propagation(Arguments, nn.Module):
    """k hops of the average over neighbours, with symmetric degree normalisation."""

    takes_edge: ClassVar[str | None] = "weight"
    always_shown: ClassVar = ("k",)
    renamed: ClassVar = {
        "K": "k",
        "num_layers": "k",
        "edge_drop": "drop=nn.Dropout(p)",
        "dropout": "drop=nn.Dropout(p)",
        "cached": "no cached (degrees are cached on the graph)",
        "add_self_loops": "no add_self_loops (write graph = dgl.add_self_loop(graph))",
        "normalize": "no normalize (both ends are normalised by degree)",
    }

    def __init__(self, k: int, drop: nn.Module | None = None, degrees: str | None = None):
        super().__init__()
        self.k, self.drop = integer(self, "k", k, minimum=0), drop
        self.degrees = one_of(self, "degrees", degrees, (None, *DEGREES))

    def hop(self, graph: GraphLike, x: Tensor, edge: Tensor | None) -> Hop:
        check_one_node_set(type(self).__name__, graph)
        degrees = self.degrees or ("unweighted" if edge is None else "weighted")
        if edge is None and self.drop is None:
            return partial(propagate, graph, degrees=degrees)
        if edge is not None and edge.shape == (graph.num_edges(), 1):
            edge = edge.squeeze(1)
        coeff = degree_norm(graph, edge, degrees=degrees, like=x)
        return lambda h: aggregate(graph, h, coeff if self.drop is None else self.drop(coeff))


class Hops(_Propagation):
    r"""Features after 0 to k averages over neighbours, stacked (SIGN: Frasca et al. 2020, arXiv 2004.11198, section 3;
    SGC is the last of them).

    .. math:: H_i = (D^{-1/2} A D^{-1/2})^i X

    Differs from the paper: self-loops are not added. A node without in-edges gets zeros after a hop.

    Args:
        k: number of hops

    Shapes:
        - x: (N, \*, F)
        - edge: weights (E,) or (E, 1), or None
        - output: (N, \*, k + 1, F)

    Raises:
        ValueError: if k is below 0
        ValueError: if the graph has two node sets, or x has a wrong number of rows

    Example:
        >>> import torch
        >>> from gnnlib.nn import Hops
        >>> import dgl
        >>> g = dgl.graph(([0, 1], [1, 0]))
        >>> Hops(2)(g, torch.tensor([[1.0], [2.0]])).squeeze(-1).tolist()
        [[1.0, 2.0, 1.0], [2.0, 1.0, 2.0]]
    """

    def __init__(self, k: int):
        super().__init__(k)

    def forward(self, graph: GraphLike, x: Tensor, edge: Tensor | None = None) -> Tensor:
        """Propagate k times.

        Args:
            graph: a graph or a batch
            x: node features, (N, \\*, F)
            edge: edge weights (E,), or None

        Returns:
            Features after 0 to k hops, (N, \\*, k + 1, F).
        """
        hop, outputs = self.hop(graph, x, edge), [x]
        for _ in range(self.k):
            outputs.append(hop(outputs[-1]))
        return torch.stack(outputs, -2)


class APPNP(_Propagation):
    r"""Personalised PageRank by power iteration (Gasteiger et al. 2019, arXiv 1810.05997, equation 4).

    .. math:: Z_0 = X, \qquad Z_{i+1} = (1 - \alpha) D^{-1/2} A D^{-1/2} Z_i + \alpha X

    The limit is PPNP, alpha (1 - (1 - alpha) P)^-1 X. Each node keeps a share alpha of its features at any depth.

    Differs from the paper: self-loops are not added (``dgl.add_self_loop``). A node without in-edges gets alpha x_v
    (for k > 0). Equals ``dgl.nn.APPNPConv``.

    Args:
        k: number of hops
        alpha: teleport probability
        degrees: as in `gnnlib.ops.degree_norm`; None: "weighted" with edge weights, else "unweighted"
        drop: called on the coefficients of the edges (E,) at each hop: ``nn.Dropout(0.5)`` in the paper

    Shapes:
        - x: (N, \*, F)
        - edge: weights (E,) or (E, 1), or None
        - output: (N, \*, F)

    Raises:
        ValueError: if k is below 0, or alpha is no probability
        ValueError: if the graph has two node sets, or x has a wrong number of rows

    Example:
        >>> import torch
        >>> from gnnlib import APPNP
        >>> import dgl
        >>> g = dgl.graph(([0, 1], [1, 0]))
        >>> APPNP(k=1, alpha=0.25)(g, torch.tensor([[0.0], [4.0]])).flatten().tolist()
        [3.0, 1.0]
    """

    def __init__(self, k: int = 10, *, alpha: float = 0.1, drop: nn.Module | None = None, degrees: str | None = None):
        super().__init__(k, drop, degrees)
        self.alpha = probability(self, "alpha", alpha)

    def forward(self, graph: GraphLike, x: Tensor, edge: Tensor | None = None) -> Tensor:
        """Propagate k times.

        Args:
            graph: a graph or a batch
            x: node features, (N, \\*, F)
            edge: edge weights (E,), or None

        Returns:
            Features after k hops, (N, \\*, F).
        """
        hop = self.hop(graph, x, edge)
        y = x
        for _ in range(self.k):
            y = torch.lerp(hop(y), x, self.alpha)
        return y


class DAGNN(_Propagation):
    r"""Deep adaptive graph neural network (Liu et al. 2020, arXiv 2007.09296): each node weights its averages over 0 to
    k hops.

    .. math:: H_i = (D^{-1/2} A D^{-1/2})^i X, \qquad Y = \sum_{i=0}^{k} \sigma(H_i s) \circ H_i

    Differs from the paper: self-loops are not added. A node without in-edges gets the term i = 0 alone.

    Args:
        feats: width of x and of s
        k: number of hops

    Shapes:
        - x: (N, \*, feats)
        - edge: weights (E,) or (E, 1), or None
        - output: (N, \*, feats)

    Raises:
        ValueError: if feats is below 1, or k below 0
        ValueError: if the graph has two node sets, or x has a wrong number of rows

    Example:
        >>> import torch
        >>> from gnnlib import DAGNN
        >>> import dgl
        >>> g = dgl.graph(([0, 1], [1, 0]))
        >>> DAGNN(3, k=8)(g, torch.ones(2, 3)).shape
        torch.Size([2, 3])
    """

    renamed: ClassVar = {**_Propagation.renamed, "in_channels": "feats", "in_feats": "feats"}

    def __init__(self, feats: int, k: int = 10):
        super().__init__(k)
        self.feats = integer(self, "feats", feats)
        self.score = Linear(feats, 1, bias=False)

    def reset_parameters(self) -> None:
        """Draw s anew."""
        self.score.reset_parameters()

    def forward(self, graph: GraphLike, x: Tensor, edge: Tensor | None = None) -> Tensor:
        """Propagate k times and sum the weighted features.

        Args:
            graph: a graph or a batch
            x: node features, (N, \\*, feats)
            edge: edge weights (E,), or None

        Returns:
            The weighted sum, (N, \\*, feats).
        """
        hop = self.hop(graph, x, edge)
        y = self.score(x).sigmoid() * x
        for _ in range(self.k):
            x = hop(x)
            y = y + self.score(x).sigmoid() * x
        return y
