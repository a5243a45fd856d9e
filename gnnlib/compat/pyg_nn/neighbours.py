"""PyG's layers that add or average plain neighbours, on gnnlib's kernels."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch_geometric import nn as pyg

from gnnlib.compat.pyg_nn._edges import ends_of, graph_of
from gnnlib.compat.pyg_nn._routing import KernelLayer, Unserved, routed
from gnnlib.compat.pyg_nn._sums import dense, neighbour_sum, reduction
from gnnlib.graph import Adjacency
from gnnlib.ops import aggregate
from gnnlib.ops.rectified import rectified_sum

__all__ = ["GINConv", "GINEConv", "GraphConv", "SAGEConv", "SimpleConv"]


class _Neighbours(KernelLayer):
    """A layer of which nothing but the adjacency is stored."""

    min_products = 1 << 18


def _ends(
    layer: Any, x: Any, edge_index: Tensor, size: Any, weight: Tensor | None = None
) -> tuple[Tensor, Tensor | None, Adjacency, Tensor | None]:
    """The features of both ends, the adjacency, and the values of a sparse matrix in place of weights."""
    reduction(layer)
    x_src, x_dst, num_dst = ends_of(x, edge_index, size)
    adj, values = graph_of(edge_index, len(x_src), num_dst, layer.flow)
    return x_src, x_dst, adj, weight if values is None else values


class SAGEConv(_Neighbours, pyg.SAGEConv):
    """``torch_geometric.nn.SAGEConv`` on gnnlib's kernels; ``aggr`` is "mean", "sum" or "max", others run PyG's code.

    Of equal maxima one gets the gradient, where PyG divides it.
    """

    @routed
    def forward(self, x: Any, edge_index: Tensor, size: Any = None) -> Tensor:
        x_src, x_dst, adj, weight = _ends(self, x, edge_index, size)
        if self.project and hasattr(self, "lin"):
            x_src = dense(self.lin, x_src).relu()
        y = dense(self.lin_l, neighbour_sum(self, adj, x_src, weight))
        if self.root_weight and x_dst is not None:
            y = y + dense(self.lin_r, x_dst)
        return F.normalize(y) if self.normalize else y


class GraphConv(_Neighbours, pyg.GraphConv):
    """``torch_geometric.nn.GraphConv`` on gnnlib's kernels."""

    @routed
    def forward(self, x: Any, edge_index: Tensor, edge_weight: Tensor | None = None, size: Any = None) -> Tensor:
        x_src, x_dst, adj, weight = _ends(self, x, edge_index, size, edge_weight)
        y = dense(self.lin_rel, neighbour_sum(self, adj, x_src, weight))
        return y if x_dst is None else y + dense(self.lin_root, x_dst)


class GINConv(_Neighbours, pyg.GINConv):
    """``torch_geometric.nn.GINConv`` on gnnlib's kernels."""

    @routed
    def forward(self, x: Any, edge_index: Tensor, size: Any = None) -> Tensor:
        x_src, x_dst, adj, weight = _ends(self, x, edge_index, size)
        if x_dst is x_src and weight is None and not self.eps.requires_grad:
            return self.nn(aggregate(adj, x_src, None, reduction(self), 1 + self.eps.item()))
        y = neighbour_sum(self, adj, x_src, weight)
        return self.nn(y if x_dst is None else y + (1 + self.eps) * x_dst)


class GINEConv(_Neighbours, pyg.GINEConv):
    """``torch_geometric.nn.GINEConv`` on gnnlib's kernels; ``aggr`` is "sum", others run PyG's code."""

    @routed
    def forward(self, x: Any, edge_index: Tensor, edge_attr: Tensor | None = None, size: Any = None) -> Tensor:
        x_src, x_dst, adj, values = _ends(self, x, edge_index, size)
        reduction(self, "sum")
        if values is not None or edge_attr is None or edge_attr.dim() != 2:
            raise Unserved
        edge = edge_attr if self.lin is None else dense(self.lin, edge_attr)
        if edge.shape != (adj.num_edges, x_src.shape[1]):
            raise Unserved
        y = rectified_sum(adj, x_src, edge)
        return self.nn(y if x_dst is None else y + (1 + self.eps) * x_dst)


class SimpleConv(_Neighbours, pyg.SimpleConv):
    """``torch_geometric.nn.SimpleConv`` on gnnlib's kernels.

    ``combine_root="self_loop"`` and several reductions run PyG's code.
    """

    @routed
    def forward(self, x: Any, edge_index: Tensor, edge_weight: Tensor | None = None, size: Any = None) -> Tensor:
        if self.combine_root == "self_loop":
            raise Unserved
        x_src, x_dst, adj, weight = _ends(self, x, edge_index, size, edge_weight)
        y = neighbour_sum(self, adj, x_src, weight)
        if x_dst is None or self.combine_root is None:
            return y
        return y + x_dst if self.combine_root == "sum" else torch.cat([x_dst, y], -1)
