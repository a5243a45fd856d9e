"""GraphSAGE: linear maps of a node's own features and of a reduction over its neighbours."""

from typing import ClassVar

from torch import Tensor, nn

from gnnlib.graph import GraphLike
from gnnlib.nn._arguments import one_of
from gnnlib.nn.conv.base import Conv, Features, add_reusing_memory, empty_linear, width_pair
from gnnlib.ops import aggregate


class SAGEConv(Conv):
    r"""GraphSAGE layer (Hamilton et al. 2017, arXiv 1706.02216, algorithm 1, lines 4 and 5).

    .. math:: y_v = x_v W_\mathrm{self} + \mathrm{reduce}_{u \to v}(w_{uv} x_u) \, W_\mathrm{neigh} + c

    Differs from the paper: its one W on the concatenation of both parts is written as two; the activation, the scaling
    of y to length 1 (line 7) and the sampling of neighbours are the caller's; "max" is of the messages themselves,
    where the paper's pooling puts a layer before it. A node without in-edges gets x_v W_self + c.
    The order of W_neigh and the mean or sum is chosen by width. State dicts of ``dgl.nn.SAGEConv`` with
    ``aggregator_type="mean"`` load; its "gcn", "pool" and "lstm" compute something else.

    Args:
        in_feats: width of the node features, or (source, destination) widths
        out_feats: width of the output
        reduce: "mean" (over the number of in-edges, weighted or not), "sum" or "max" (elementwise)
        bias: whether to add c

    Shapes:
        - x: (N, \*, in_feats), or a pair (x_src, x_dst)
        - edge: weights (E,), or None
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
        self.reduce = one_of(self, "reduce", reduce, ("mean", "sum", "max"))
        src_feats, dst_feats = width_pair(self.in_feats)
        self.fc_self = empty_linear(dst_feats, self.out_feats, bias=bias)
        self.fc_neigh = empty_linear(src_feats, self.out_feats, bias=False)
        self.reset_parameters()

    @property
    def bias(self) -> Tensor | None:
        """c, or None."""
        return self.fc_self.bias

    def reset_parameters(self) -> None:
        """Draw weights as Glorot and Bengio (2010) do, and c as ``nn.Linear`` does."""
        super().reset_parameters()
        gain = nn.init.calculate_gain("relu")
        for fc in (self.fc_self, self.fc_neigh):
            nn.init.xavier_uniform_(fc.weight, gain)

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
        self.check_edge(graph, edge)
        if self.reduce != "max" and x_src.shape[-1] > self.out_feats:
            return add_reusing_memory(self.fc_self(x_dst), aggregate(graph, self.fc_neigh(x_src), edge, self.reduce))
        return add_reusing_memory(self.fc_self(x_dst), self.fc_neigh(aggregate(graph, x_src, edge, self.reduce)))
