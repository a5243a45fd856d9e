"""PyG's layers whose messages depend on edge features or gates, on gnnlib's kernels."""

from typing import Any

from torch import Tensor, nn
from torch_geometric import nn as pyg

from gnnlib.compat.pyg_nn._edges import ends_of, graph_of, pair_of
from gnnlib.compat.pyg_nn._routing import KernelLayer, Unserved, routed
from gnnlib.compat.pyg_nn._sums import HOOKS, dense, is_linear, reduction
from gnnlib.graph import Adjacency
from gnnlib.nn.conv.base import add_bias
from gnnlib.nn.conv.ecc import sum_with_edge_matrices
from gnnlib.ops import aggregate, convolve
from gnnlib.ops.degrees import mean_from_sum
from gnnlib.ops.edges_as_nodes import incidence
from gnnlib.ops.gated import gated_sum

__all__ = ["GMMConv", "NNConv", "ResGatedGraphConv"]


def _ends(
    layer: Any, x: Any, edge_index: Tensor, edge_attr: Any, size: Any
) -> tuple[Tensor, Tensor | None, Tensor, Adjacency]:
    """The features of both ends and of the edges, which may be values of a sparse matrix, and the adjacency."""
    reduction(layer, "sum", "mean")
    x_src, x_dst, num_dst = ends_of(x, edge_index, size)
    adj, values = graph_of(edge_index, len(x_src), num_dst, layer.flow, value_axes=1)
    edge = values if edge_attr is None else edge_attr
    if not isinstance(edge, Tensor) or edge.dim() != 2 or len(edge) != adj.num_edges:
        raise Unserved
    return x_src, x_dst, edge, adj


def _reduced(layer: Any, adj: Adjacency, y: Tensor) -> Tensor:
    """The reduction of a layer, the sum or the mean, from the sum."""
    return mean_from_sum(adj, y) if reduction(layer) == "mean" else y


class NNConv(KernelLayer, pyg.NNConv):
    """``torch_geometric.nn.NNConv`` on gnnlib's kernels, without a matrix per edge.

    ``nn`` is a linear layer, or a ``torch.nn.Sequential`` that ends with one; others, and ``aggr="max"``, run PyG's
    code.
    """

    @routed
    def forward(self, x: Any, edge_index: Tensor, edge_attr: Tensor | None = None, size: Any = None) -> Tensor:
        x_src, x_dst, edge_attr, adj = _ends(self, x, edge_index, edge_attr, size)
        modules: list[Any] = [*self.nn] if type(self.nn) is nn.Sequential else [self.nn]
        last = modules.pop()
        if not is_linear(last) or any(getattr(self.nn, name) for name in HOOKS):
            raise Unserved
        hidden = edge_attr
        for module in modules:
            hidden = module(hidden)
        y = _reduced(self, adj, sum_with_edge_matrices(adj, x_src, hidden, last.weight, last.bias, self.out_channels))
        if self.root_weight and x_dst is not None:
            y = y + dense(self.lin, x_dst)
        return add_bias(y, self.bias)


class GMMConv(KernelLayer, pyg.GMMConv):
    """``torch_geometric.nn.GMMConv`` on gnnlib's kernels; ``separate_gaussians=True`` runs PyG's code."""

    @routed
    def forward(self, x: Any, edge_index: Tensor, edge_attr: Tensor | None = None, size: Any = None) -> Tensor:
        x_src, x_dst, edge_attr, adj = _ends(self, x, edge_index, edge_attr, size)
        if self.separate_gaussians:
            raise Unserved
        distance = (edge_attr.unsqueeze(1) - self.mu).square() / (self.sigma.square() + 1e-15)
        weight = self.g.view(-1, self.kernel_size, self.out_channels).transpose(0, 1)
        y = _reduced(self, adj, convolve(adj, x_src, (-0.5 * distance.sum(-1)).exp(), weight))
        if self.root_weight and x_dst is not None:
            y = y + dense(self.root, x_dst)
        return add_bias(y, self.bias)


class ResGatedGraphConv(KernelLayer, pyg.ResGatedGraphConv):
    """``torch_geometric.nn.ResGatedGraphConv`` on gnnlib's kernels; with edge features or another gate, PyG's code."""

    @routed
    def forward(self, x: Any, edge_index: Tensor, edge_attr: Tensor | None = None) -> Tensor:
        x_src, x_dst = pair_of(x)
        if edge_attr is not None or self.edge_dim is not None or type(self.act) is not nn.Sigmoid:
            raise Unserved
        reduction(self, "sum")
        adj, _ = graph_of(edge_index, len(x_src), len(x_dst), self.flow)
        from_src, from_dst = incidence(adj)
        gate = aggregate(from_src, dense(self.lin_query, x_src)) + aggregate(from_dst, dense(self.lin_key, x_dst))
        y = gated_sum(adj, dense(self.lin_value, x_src), gate)
        if self.root_weight:
            y = y + dense(self.lin_skip, x_dst)
        return add_bias(y, self.bias)
