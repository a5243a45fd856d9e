"""PyG's layers that sum over a normalised adjacency, on gnnlib's kernels."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch_geometric import nn as pyg

from gnnlib.compat.pyg_nn._edges import gcn_edges, graph_of, stored
from gnnlib.compat.pyg_nn._routing import KernelLayer, Unserved, routed
from gnnlib.compat.pyg_nn._sums import dense, neighbour_sum, reduction, transformed_sum
from gnnlib.graph import Adjacency
from gnnlib.nn.conv.base import add_bias

__all__ = ["APPNP", "ARMAConv", "ChebConv", "GCN2Conv", "GCNConv", "LGConv", "SGConv", "TAGConv"]


class _Propagation(KernelLayer):
    """A layer whose normalisation is stored, and computed once for the edges of a loader."""

    min_products = 1 << 17


def _edges(
    layer: Any, x: Tensor, edge_index: Tensor, edge_weight: Tensor | None, **options: Any
) -> tuple[Adjacency, Tensor | None]:
    """The edges of a layer, normalised unless it says otherwise."""
    reduction(layer)
    if getattr(layer, "normalize", True):
        return gcn_edges(layer, x, edge_index, edge_weight, **options)
    adj, values = graph_of(edge_index, len(x), len(x), layer.flow)
    return adj, edge_weight if values is None else values


class GCNConv(_Propagation, pyg.GCNConv):
    """``torch_geometric.nn.GCNConv`` on gnnlib's kernels.

    Example:
        >>> import torch
        >>> from gnnlib.compat.pyg_nn import GCNConv
        >>> edge_index = torch.tensor([[0, 1, 2], [1, 2, 0]])
        >>> GCNConv(8, 4)(torch.ones(3, 8), edge_index).shape
        torch.Size([3, 4])
    """

    @routed
    def forward(self, x: Tensor, edge_index: Tensor, edge_weight: Tensor | None = None) -> Tensor:
        options = {"improved": self.improved, "add_self_loops": self.add_self_loops}
        adj, weight = _edges(self, x, edge_index, edge_weight, **options)
        return add_bias(transformed_sum(self, adj, x, weight, self.lin), self.bias)


class SGConv(_Propagation, pyg.SGConv):
    """``torch_geometric.nn.SGConv`` on gnnlib's kernels."""

    _cached_x: Tensor | None

    @routed
    def forward(self, x: Tensor, edge_index: Tensor, edge_weight: Tensor | None = None) -> Tensor:
        if self._cached_x is not None:
            return dense(self.lin, self._cached_x.detach())
        adj, weight = _edges(self, x, edge_index, edge_weight, add_self_loops=self.add_self_loops)
        for _ in range(self.K):
            x = neighbour_sum(self, adj, x, weight)
        if self.cached and self.K:
            self._cached_x = x
        return dense(self.lin, x)


class APPNP(_Propagation, pyg.APPNP):
    """``torch_geometric.nn.APPNP`` on gnnlib's kernels. Dropout draws PyG's numbers."""

    @routed
    def forward(self, x: Tensor, edge_index: Tensor, edge_weight: Tensor | None = None) -> Tensor:
        adj, weight = _edges(self, x, edge_index, edge_weight, add_self_loops=self.add_self_loops)
        y = x
        for _ in range(self.K):
            if self.dropout and self.training:
                if weight is None:
                    raise Unserved
                weight = F.dropout(weight, self.dropout)
            y = torch.add(neighbour_sum(self, adj, y, weight) * (1 - self.alpha), x, alpha=self.alpha)
        return y


class GCN2Conv(_Propagation, pyg.GCN2Conv):
    """``torch_geometric.nn.GCN2Conv`` on gnnlib's kernels."""

    @routed
    def forward(self, x: Tensor, x_0: Tensor, edge_index: Tensor, edge_weight: Tensor | None = None) -> Tensor:
        adj, weight = _edges(self, x, edge_index, edge_weight, add_self_loops=self.add_self_loops)
        summed = neighbour_sum(self, adj, x, weight) * (1 - self.alpha)
        first = self.alpha * x_0[: len(x)]
        if self.weight2 is None:
            return self._mapped(summed + first, self.weight1)
        return self._mapped(summed, self.weight1) + self._mapped(first, self.weight2)

    def _mapped(self, x: Tensor, weight: Tensor) -> Tensor:
        """(1 - beta) x + beta x W"""
        return torch.addmm(x, x, weight, beta=1 - self.beta, alpha=self.beta)


class LGConv(_Propagation, pyg.LGConv):
    """``torch_geometric.nn.LGConv`` on gnnlib's kernels."""

    @routed
    def forward(self, x: Tensor, edge_index: Tensor, edge_weight: Tensor | None = None) -> Tensor:
        adj, weight = _edges(self, x, edge_index, edge_weight, add_self_loops=False)
        return neighbour_sum(self, adj, x, weight)


class TAGConv(_Propagation, pyg.TAGConv):
    """``torch_geometric.nn.TAGConv`` on gnnlib's kernels."""

    @routed
    def forward(self, x: Tensor, edge_index: Tensor, edge_weight: Tensor | None = None) -> Tensor:
        adj, weight = _edges(self, x, edge_index, edge_weight, add_self_loops=False)
        y = dense(self.lins[0], x)
        for module in self.lins[1:]:
            x = neighbour_sum(self, adj, x, weight)
            y = y + dense(module, x)
        return add_bias(y, self.bias)


class ARMAConv(_Propagation, pyg.ARMAConv):
    """``torch_geometric.nn.ARMAConv`` on gnnlib's kernels. Dropout draws PyG's numbers."""

    @routed
    def forward(self, x: Tensor, edge_index: Tensor, edge_weight: Tensor | None = None) -> Tensor:
        if edge_index.layout is not torch.strided:
            raise Unserved
        adj, weight = _edges(self, x, edge_index, edge_weight, add_self_loops=False)
        first, y = x.unsqueeze(0), x.unsqueeze(0)
        for step in range(self.num_layers):
            shared = 0 if self.shared_weights else step
            y = y @ (self.weight[max(shared - 1, 0)] if step else self.init_weight)
            y = neighbour_sum(self, adj, y.transpose(0, 1), weight).transpose(0, 1)
            y = y + F.dropout(first, self.dropout, self.training) @ self.root_weight[shared]
            if self.bias is not None:
                y = y + self.bias[shared]
            if self.act is not None:
                y = self.act(y)
        return y.mean(0)


class ChebConv(_Propagation, pyg.ChebConv):
    """``torch_geometric.nn.ChebConv`` on gnnlib's kernels."""

    @routed
    def forward(
        self,
        x: Tensor,
        edge_index: Tensor,
        edge_weight: Tensor | None = None,
        batch: Tensor | None = None,
        lambda_max: Any = None,
    ) -> Tensor:
        reduction(self)
        adj, weight = self._laplacian(x, edge_index, edge_weight, batch, lambda_max)
        before, now = None, x
        y = dense(self.lins[0], x)
        for module in self.lins[1:]:
            following = neighbour_sum(self, adj, now, weight)
            if before is not None:
                following = 2 * following - before
            before, now = now, following
            y = y + dense(module, now)
        return add_bias(y, self.bias)

    def _laplacian(
        self, x: Tensor, edge_index: Tensor, edge_weight: Tensor | None, batch: Tensor | None, lambda_max: Any
    ) -> tuple[Adjacency, Tensor | None]:
        """The scaled Laplacian; it is stored unless ``lambda_max`` is a tensor."""
        if edge_index.layout is not torch.strided:
            raise Unserved
        graph_of(edge_index, len(x), len(x))  # checks

        def normalize() -> tuple[Tensor, Tensor]:
            return self.__norm__(
                edge_index, len(x), edge_weight, self.normalization, lambda_max, dtype=x.dtype, batch=batch
            )

        if isinstance(lambda_max, Tensor):
            index, weight = normalize()
        else:
            key = ("laplacian", len(x), self.normalization, lambda_max, x.dtype)
            index, weight = stored(edge_index, key, normalize, edge_weight)
        index = stored(edge_index, ("laplacian edges", len(x), self.normalization), lambda: index)
        return graph_of(index, len(x), len(x), self.flow)[0], weight
