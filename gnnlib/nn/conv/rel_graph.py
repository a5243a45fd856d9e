"""Relational graph convolution: a weight matrix per relation."""

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from gnnlib.graph import ETYPE, Adjacency, GraphLike, adjacency
from gnnlib.graph._adjacency import is_traced
from gnnlib.nn._arguments import integer, one_of
from gnnlib.nn.conv.base import Conv, Features, add_bias, add_reusing_memory, empty, width_pair
from gnnlib.ops import convolve
from gnnlib.ops.degrees import relation_share
from gnnlib.ops.linear import linear

OTHER_NAMES = {
    "linear_r.W": "weight",
    "linear_r.coeff": "coeff",
    "h_bias": "bias",
    "comp": "coeff",
    "root": "loop_weight",
}
"""Parameters of ``dgl.nn.RelGraphConv`` and of PyG's ``RGCNConv``."""


class RelGraphConv(Conv):
    r"""Relational graph convolution (Schlichtkrull et al. 2018, arXiv 1703.06103, equation 2).

    .. math:: y_v = \sum_r \sum_{u \to v \in r} \frac{w_{uv}}{d_{v,r}} x_u W_r + x_v W_0 + c

    with d_{v,r} the number of in-edges of v that have relation r. The matrices of the relations are free, combinations
    of B bases (equation 3), or block-diagonal with B blocks (equation 4):

    .. math:: W_r = \sum_b a_{rb} V_b, \qquad W_r = \operatorname{diag}(Q_{r1}, \dots, Q_{rB})

    Memory: the sums of one relation at a time, of a few thousand destinations, and no matrix or message per edge. For
    bases the smaller of the two is chosen: the matrices, (num_rels, in_feats, out_feats), or B coefficients per edge.

    Differs from the paper: the activation and dropout are those of `GNNLayer`; inverse relations are the caller's
    edges. A node without in-edges gets x_v W_0 + c.
    State dicts of ``dgl.nn.RelGraphConv`` (where ``norm="none"`` gives its output without ``norm``) and of PyG's
    ``RGCNConv`` load.

    Args:
        in_feats: width of the node features, or (source, destination) widths
        out_feats: width of the output
        num_rels: number of relations
        regularizer: None, "basis" or "bdd" (block-diagonal)
        num_bases: B; None: num_rels. A number of blocks divides both widths
        norm: "right" (divide by d_{v,r}) or "none" (the sum)
        self_loop: whether to add x_v W_0
        bias: whether to add c

    Shapes:
        - x: (N, \*, in_feats), or a pair (x_src, x_dst)
        - edge: weights (E,) or (E, 1), or None
        - etypes: (E,), integers below num_rels
        - output: (N_dst, \*, out_feats)

    Raises:
        ValueError: if an argument is out of range, a shape is wrong, or a relation is not below num_rels
        TypeError: if x or edge is no floating-point tensor, or etypes no tensor of integers

    Example:
        >>> import torch
        >>> from gnnlib import RelGraphConv
        >>> import dgl
        >>> g, etypes = dgl.graph(([0, 1, 2], [2, 2, 0])), torch.tensor([0, 3, 1])
        >>> RelGraphConv(3, 2, num_rels=4, regularizer="basis", num_bases=2)(g, torch.ones(3, 3), etypes=etypes).shape
        torch.Size([3, 2])
    """

    takes_edge: ClassVar[str | None] = "weight"
    two_widths: ClassVar[bool] = True

    def __init__(
        self,
        in_feats: int | tuple[int, int],
        out_feats: int,
        num_rels: int,
        *,
        regularizer: str | None = None,
        num_bases: int | None = None,
        norm: str = "right",
        self_loop: bool = True,
        bias: bool = True,
    ):
        super().__init__(in_feats, out_feats)
        self.num_rels = integer(self, "num_rels", num_rels)
        self.regularizer = one_of(self, "regularizer", regularizer, (None, "basis", "bdd"))
        self.num_bases = None if num_bases is None else integer(self, "num_bases", num_bases)
        self.norm = one_of(self, "norm", norm, ("right", "none"))
        src_feats, dst_feats = width_pair(self.in_feats)
        bases = self.num_rels if self.num_bases is None else self.num_bases
        if regularizer is None and num_bases is not None:
            raise ValueError(
                f"RelGraphConv: expected a regularizer with num_bases={num_bases}, 'basis' or 'bdd', got None"
            )
        if regularizer == "bdd" and (src_feats % bases or self.out_feats % bases):
            raise ValueError(
                f"RelGraphConv: expected a number of blocks num_bases that divides the widths {src_feats} and "
                f"{self.out_feats}, got {bases}"
            )
        blocks = (bases, src_feats // bases, self.out_feats // bases)
        matrix = src_feats, self.out_feats
        shapes = {None: (self.num_rels, *matrix), "basis": (bases, *matrix), "bdd": (self.num_rels, *blocks)}
        self.weight = empty(*shapes[regularizer])
        self.coeff = empty(self.num_rels, bases) if regularizer == "basis" else None
        self.loop_weight = empty(dst_feats, self.out_feats) if self_loop else None
        self.bias = empty(self.out_feats) if bias else None
        self.reset_parameters()

    @property
    def self_loop(self) -> bool:
        """Whether x_v W_0 is added."""
        return self.loop_weight is not None

    def reset_parameters(self) -> None:
        """Draw the matrices as Glorot and Bengio (2010) do, the coefficients with the variance 1 / B; c is 0."""
        bound = (6 / sum(self.weight.shape[-2:])) ** 0.5
        nn.init.uniform_(self.weight, -bound, bound)
        if self.coeff is not None:
            bound = (3 / self.coeff.shape[1]) ** 0.5
            nn.init.uniform_(self.coeff, -bound, bound)
        if self.loop_weight is not None:
            nn.init.xavier_uniform_(self.loop_weight)
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def forward(
        self, graph: GraphLike, x: Features, edge: Tensor | None = None, *, etypes: Tensor | None = None
    ) -> Tensor:
        """Apply the layer.

        Args:
            graph: a graph, a block or a bipartite graph
            x: node features
            edge: edge weights
            etypes: the relation of each edge; None: ``graph.edata["_TYPE"]``, which ``dgl.to_homogeneous`` sets

        Shapes:
            as of the class

        Returns:
            the features of the destinations
        """
        x_dst: Tensor | None
        x_src, x_dst = self.src_dst_features(graph, x) if self.self_loop else self.src_features(graph, x)
        edge = self.check_edge(graph, edge)
        etypes = graph.edata[ETYPE] if etypes is None and ETYPE in graph.edata else etypes
        etypes = check_relations(etypes, graph.num_edges(), self.num_rels)
        adj = adjacency(graph, x_src.device)
        if etypes.device != x_src.device:
            etypes = etypes.to(x_src.device)
        if self.norm == "right":
            share = relation_share(adj, etypes, self.num_rels, x_src.dtype)
            edge = share if edge is None else edge * share
        y = sum_by_relation(adj, x_src, etypes, self.weight, self.coeff, edge)
        if self.loop_weight is not None and x_dst is not None:
            y = add_reusing_memory(y, linear(x_dst, self.loop_weight.T))
        return add_bias(y, self.bias)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        for other, name in OTHER_NAMES.items():
            if prefix + other in state_dict:
                value = state_dict.pop(prefix + other)
                blocks = name == "weight" and self.regularizer == "bdd" and value.numel() == self.weight.numel()
                state_dict[prefix + name] = value.view(self.weight.shape) if blocks else value
        super()._load_from_state_dict(state_dict, prefix, *rest)


def check_relations(etypes: Any, num_edges: int, num_rels: int) -> Tensor:
    """Check that relations are integers below ``num_rels``, one for each edge.

    Raises:
        TypeError: if they are no tensor of integers
        ValueError: if there is another number of them, or one is out of range
    """
    expected = f"RelGraphConv: expected etypes, the relation of each edge, of shape ({num_edges},)"
    if etypes is None:
        raise ValueError(f"{expected}, or graph.edata[{ETYPE!r}], got none")
    if not isinstance(etypes, Tensor) or etypes.dtype not in (torch.int32, torch.int64):
        got = etypes.dtype if isinstance(etypes, Tensor) else type(etypes).__name__
        raise TypeError(f"{expected} and integers, got {got}")
    if etypes.shape != (num_edges,):
        raise ValueError(f"{expected}, got {tuple(etypes.shape)}")
    low, high = (t.item() for t in etypes.aminmax()) if len(etypes) and not is_traced() else (0, 0)
    if low < 0 or high >= num_rels:
        raise ValueError(f"RelGraphConv: expected etypes from 0 to {num_rels - 1}, got {low} to {high}")
    return etypes


def sum_by_relation(
    adj: Adjacency, x: Tensor, etypes: Tensor, weight: Tensor, bases: Tensor | None, edge: Tensor | None
) -> Tensor:
    """The sum over in-neighbours of w_uv x_u W_r.

    Args:
        adj: the edges
        x: features of the sources, (N_src, \\*, F)
        etypes: the relation r of each edge, (E,)
        weight: a matrix per relation, (R, F, O); of each block, (R, B, F / B, O / B); or bases, (B, F, O)
        bases: the coefficients of the bases, (R, B), or None
        edge: edge weights (E,), or None

    Returns:
        The sums, (N_dst, \\*, O).
    """
    if weight.dim() == 4:
        x = x.unflatten(-1, (weight.shape[1], weight.shape[2]))
        return convolve(adj, x, etypes, weight.transpose(0, 1), edge).flatten(-2)
    if bases is None:
        return convolve(adj, x, etypes, weight, edge)
    if len(bases) * weight[0].numel() <= adj.num_edges * len(weight):
        return convolve(adj, x, etypes, torch.tensordot(bases, weight, 1), edge)
    basis = bases[etypes.long()]
    return convolve(adj, x, basis if edge is None else basis * edge.unsqueeze(1), weight)
