"""GraphSAGE: linear maps of a node's own features and of a reduction over its neighbours."""

from typing import ClassVar

from torch import Tensor, nn

from gnnlib.graph import GraphLike, adjacency
from gnnlib.nn._arguments import one_of
from gnnlib.nn.conv.base import Conv, Features, add_bias, add_reusing_memory, empty_linear, width_pair, zeros
from gnnlib.ops import aggregate


class SAGEConv(Conv):
    r"""GraphSAGE layer (Hamilton et al. 2017, arXiv 1706.02216, algorithm 1, lines 4 and 5, and section 3.3).

    .. math:: y_v = x_v W_\mathrm{self} + \mathrm{reduce}_{u \to v}(w_{uv} x_u) \, W_\mathrm{neigh} + c

    "pool" is the maximum of a layer on the neighbours, max(0, x_u W_pool + c_pool) in place of x_u. "gcn" is the mean
    over a node and its neighbours, without W_self:

    .. math:: y_v = \frac{x_v + \sum_{u \to v} w_{uv} x_u}{d_v + 1} W_\mathrm{neigh} + c

    Differs from the paper: its one W on the concatenation of both parts is written as two; the activation, the scaling
    of y to length 1 (line 7) and the sampling of neighbours are the caller's; "sum", and "max" of the messages
    themselves, are additions. A node without in-edges gets x_v W_self + c, with "gcn" x_v W_neigh + c.
    The order of W_neigh and the mean or sum is chosen by width. State dicts of ``dgl.nn.SAGEConv`` load, without its
    "lstm".

    Args:
        in_feats: width of the node features, or (source, destination) widths
        out_feats: width of the output
        reduce: "mean" (over the number of in-edges, weighted or not), "sum", "max" (elementwise), "pool" or "gcn"
        bias: whether to add c

    Shapes:
        - x: (N, \*, in_feats), or a pair (x_src, x_dst)
        - edge: weights (E,) or (E, 1), or None
        - output: (N_dst, \*, out_feats)

    Raises:
        ValueError: if an argument is out of range, a shape is wrong, or a graph with two node sets comes without a pair
        TypeError: if x or edge is no floating-point tensor

    Example:
        >>> import torch
        >>> from gnnlib import SAGEConv
        >>> import dgl
        >>> g = dgl.graph(([0, 1], [1, 0]))
        >>> SAGEConv(3, 2)(g, torch.ones(2, 3)).shape
        torch.Size([2, 2])
    """

    takes_edge: ClassVar[str | None] = "weight"
    two_widths: ClassVar[bool] = True

    def __init__(self, in_feats: int | tuple[int, int], out_feats: int, *, reduce: str = "mean", bias: bool = True):
        super().__init__(in_feats, out_feats)
        self.reduce = one_of(self, "reduce", reduce, ("mean", "sum", "max", "pool", "gcn"))
        src_feats, dst_feats = width_pair(self.in_feats)
        if reduce == "gcn" and src_feats != dst_feats:
            raise ValueError(f"SAGEConv: expected equal widths for reduce='gcn', got {in_feats}")
        self.fc_pool = empty_linear(src_feats, src_feats) if reduce == "pool" else None
        self.fc_self = empty_linear(dst_feats, self.out_feats, bias=bias) if reduce != "gcn" else None
        self.fc_neigh = empty_linear(src_feats, self.out_feats, bias=False)
        if reduce == "gcn":
            self._parameters["bias"] = zeros(self.out_feats) if bias else None
        self.reset_parameters()

    @property
    def bias(self) -> Tensor | None:
        """c, or None."""
        return self._parameters["bias"] if self.fc_self is None else self.fc_self.bias

    def reset_parameters(self) -> None:
        """Draw weights as Glorot and Bengio (2010) do, and c as ``nn.Linear`` does; with "gcn" it is 0."""
        super().reset_parameters()
        gain = nn.init.calculate_gain("relu")
        for fc in self.children():
            nn.init.xavier_uniform_(fc.weight, gain)  # type: ignore[arg-type]
        if self.fc_self is None and self.bias is not None:
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
        x_src, x_dst = self.src_dst_features(graph, x)
        edge = self.check_edge(graph, edge)
        if self.fc_self is None:
            y = mean_with_self(graph, x_src, x_dst if isinstance(x, tuple) else None, edge, self.fc_neigh)
            return add_bias(y, self.bias)
        y = self.fc_self(x_dst)
        if self.fc_pool is not None:
            return add_reusing_memory(y, self.fc_neigh(aggregate(graph, self.fc_pool(x_src).relu(), edge, "max")))
        if self.reduce != "max" and x_src.shape[-1] > self.out_feats:
            return add_reusing_memory(y, aggregate(graph, self.fc_neigh(x_src), edge, self.reduce))
        return add_reusing_memory(y, self.fc_neigh(aggregate(graph, x_src, edge, self.reduce)))


def mean_with_self(graph: GraphLike, x_src: Tensor, x_dst: Tensor | None, edge: Tensor | None, fc: nn.Linear) -> Tensor:
    """A linear map of (x_v + sum of w_uv x_u) / (d_v + 1), taken before the sum where it makes features narrower.

    Args:
        graph: the graph
        x_src: features of the sources
        x_dst: features of the destinations; None: these are the first sources
        edge: edge weights, or None
        fc: the linear map

    Returns:
        The mapped means.
    """
    adj, narrower = adjacency(graph, x_src.device), fc.out_features < fc.in_features
    if narrower:
        x_src, x_dst = fc(x_src), None if x_dst is None else fc(x_dst)
    if x_dst is None:
        y = aggregate(adj, x_src, edge, self_weight=1.0)
    else:
        y = aggregate(adj, x_src, edge) + x_dst
    share = adj.cached(("share with self", y.dtype), lambda: (1 / (adj.in_degrees + 1).double()).to(y.dtype))
    y = y * share.view(-1, *[1] * (y.dim() - 1))
    return y if narrower else fc(y)
