"""GraphSAGE: a node's own features and a summary of its neighbours', each through its own linear map."""

from typing import ClassVar

from torch import Tensor, nn

from gnnlib._platform.dgl import dgl
from gnnlib.nn.conv.base import Conv, Features, add_reusing_memory
from gnnlib.ops import aggregate
from gnnlib.ops.linear import Linear


class SAGEConv(Conv):
    r"""GraphSAGE layer (Hamilton et al. 2017, arXiv 1706.02216, algorithm 1, lines 4 and 5).

    .. math:: y_v = x_v W_\mathrm{self} + \mathrm{reduce}_{u \to v}(w_{uv} x_u) \, W_\mathrm{neigh} + c

    Args:
        in_feats: width of x, or (source, destination) widths
        out_feats: width of y
        reduce: "mean" (over the number of in-edges, weighted or not), "sum" or "max" (elementwise)
        bias: whether to add c

    Shapes: x (N, \*, in_feats) or a pair; edge None or weights (E,); returns (N_dst, \*, out_feats).

    Raises: ValueError or TypeError, naming expected and received, for an unknown ``reduce``, for x or edge of a wrong
    shape or dtype, or where a graph with two node sets comes without a pair.

    Differs from the paper: its one W on the concatenation of both parts is written as two; the activation, the scaling
    of y to length 1 (line 7) and the sampling of neighbours are the caller's; "max" is of the messages themselves,
    where the paper's pooling puts a layer before it. A node without in-edges gets x_v W_self + c.
    The order of W_neigh and the mean or sum is chosen by width. State dicts of ``dgl.nn.SAGEConv`` with
    ``aggregator_type="mean"`` load; its "gcn", "pool" and "lstm" compute something else.

    >>> import torch
    >>> g = dgl.graph(([0, 1], [1, 0]))
    >>> SAGEConv(3, 2)(g, torch.ones(2, 3)).shape
    torch.Size([2, 2])
    """

    takes_edge: ClassVar[str | None] = "weight"

    def __init__(self, in_feats: int | tuple[int, int], out_feats: int, reduce: str = "mean", bias: bool = True):
        super().__init__(in_feats, out_feats)
        if reduce not in ("mean", "sum", "max"):
            raise ValueError(f"SAGEConv: expected reduce to be 'mean', 'sum' or 'max', got {reduce!r}")
        src_feats, dst_feats = in_feats if isinstance(in_feats, tuple) else (in_feats, in_feats)
        self.reduce = reduce
        self.fc_self = Linear(dst_feats, out_feats, bias=bias)
        self.fc_neigh = Linear(src_feats, out_feats, bias=False)
        gain = nn.init.calculate_gain("relu")
        for fc in (self.fc_self, self.fc_neigh):
            nn.init.xavier_uniform_(fc.weight, gain)

    def forward(self, graph: dgl.DGLGraph, x: Features, edge: Tensor | None = None) -> Tensor:
        x_src, x_dst = self.both_ends(graph, x)
        self.check_edge(graph, edge)
        if self.reduce != "max" and x_src.shape[-1] > self.out_feats:
            return add_reusing_memory(self.fc_self(x_dst), aggregate(graph, self.fc_neigh(x_src), edge, self.reduce))
        return add_reusing_memory(self.fc_self(x_dst), self.fc_neigh(aggregate(graph, x_src, edge, self.reduce)))
