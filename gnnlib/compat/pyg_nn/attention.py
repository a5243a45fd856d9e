"""PyG's layers with attention, on gnnlib's kernels."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch_geometric import nn as pyg
from torch_geometric.utils.sparse import set_sparse_value

from gnnlib.compat.pyg_nn._edges import SOURCE_TO_TARGET, graph_of, loop_edges, pair_of
from gnnlib.compat.pyg_nn._routing import KernelLayer, Unserved, routed
from gnnlib.compat.pyg_nn._sums import dense, reduction
from gnnlib.graph import Adjacency
from gnnlib.nn.conv.base import add_bias
from gnnlib.ops import aggregate, attend, edge_score, edge_softmax, gather_dst, gather_src
from gnnlib.ops.edges_as_nodes import incidence

__all__ = ["GATConv", "GATv2Conv"]


class _Attention(KernelLayer):
    """What GAT and GATv2 share: edges with self-loops, dropout of the weights, and the axis of the heads."""

    def _edges(
        self: Any, edge_index: Tensor, edge_attr: Tensor | None, num_src: int, num_dst: int
    ) -> tuple[Tensor, Tensor | None, Adjacency]:
        sparse = edge_index.layout is not torch.strided
        reduction(self, "sum")
        if self.flow != SOURCE_TO_TARGET or (sparse and self.edge_dim is not None):
            raise Unserved
        if edge_attr is not None and (sparse or self.lin_edge is None or edge_attr.dim() not in (1, 2)):
            raise Unserved
        graph_of(edge_index, num_src, num_dst)  # checks
        if self.add_self_loops:
            edge_index, edge_attr = loop_edges(edge_index, edge_attr, min(num_src, num_dst), self.fill_value)
        adj = graph_of(edge_index, num_src, num_dst)[0]
        if edge_attr is not None and edge_attr.dim() == 1:
            edge_attr = edge_attr.unsqueeze(1)
        if edge_attr is not None and len(edge_attr) != adj.num_edges:
            raise Unserved
        return edge_index, edge_attr, adj

    def _heads(self: Any, module: Any, x: Tensor) -> Tensor:
        return dense(module, x).view(-1, self.heads, self.out_channels)

    def _weights(self: Any, adj: Adjacency, score: Tensor) -> Tensor:
        return F.dropout(edge_softmax(adj, score), self.dropout, self.training)

    def _output(self: Any, y: Tensor, x_dst: Tensor) -> Tensor:
        """y (N, H, C) with the heads joined or averaged, plus residual and bias."""
        y = y.flatten(1) if self.concat else y.mean(1)
        residual = getattr(self, "res", None)
        return add_bias(y if residual is None else y + dense(residual, x_dst), self.bias)


def _with_weights(y: Tensor, edge_index: Tensor, weights: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """The output and the edges with their weights; of a sparse matrix both are PyG's."""
    if edge_index.layout is not torch.strided:
        edge_index = set_sparse_value(edge_index, weights)
    return y, (edge_index, weights)


class GATConv(_Attention, pyg.GATConv):
    """``torch_geometric.nn.GATConv`` on gnnlib's kernels. Dropout draws PyG's numbers.

    Without edge features, scores, softmax and sum are one pass over the edges, and nothing is stored per edge.

    Example:
        >>> import torch
        >>> from gnnlib.compat.pyg_nn import GATConv
        >>> edge_index = torch.tensor([[0, 1, 2], [1, 2, 0]])
        >>> GATConv(8, 4, heads=2)(torch.ones(3, 8), edge_index).shape
        torch.Size([3, 8])
    """

    @routed
    def forward(
        self,
        x: Any,
        edge_index: Tensor,
        edge_attr: Tensor | None = None,
        size: Any = None,
        return_attention_weights: bool | None = None,
    ) -> Any:
        x_src, x_dst = pair_of(x, size)
        edge_index, edge_attr, adj = self._edges(edge_index, edge_attr, len(x_src), len(x_dst))
        shared = self.lin is not None
        feat = self._heads(self.lin if shared else self.lin_src, x_src)
        feat_dst = feat if shared and x_dst is x_src else self._heads(self.lin if shared else self.lin_dst, x_dst)
        if edge_attr is not None:
            weights = self._weights(adj, self._score(adj, feat, feat_dst, edge_attr))
            y = self._output(aggregate(adj, feat, weights), x_dst)
            return _with_weights(y, edge_index, weights) if return_attention_weights else y
        mask = None
        if self.dropout and self.training:
            mask = F.dropout(feat.new_ones(adj.num_edges, self.heads), self.dropout)
        y = self._attend(adj, feat, feat_dst, x_dst, mask)
        if not return_attention_weights:
            return y
        weights = edge_softmax(adj, self._score(adj, feat, feat_dst))
        return _with_weights(y, edge_index, weights if mask is None else weights * mask)

    def _attend(self, adj: Adjacency, feat: Tensor, feat_dst: Tensor, x_dst: Tensor, mask: Tensor | None) -> Tensor:
        """Scores, softmax and sum in one pass, which adds the bias of joined heads."""
        joined = self.concat and self.bias is not None and getattr(self, "res", None) is None
        bias = self.bias.view(self.heads, self.out_channels) if joined else None
        other = None if feat_dst is feat else feat_dst
        y = attend(adj, feat, self.att_src[0], self.att_dst[0], other, self.negative_slope, mask, bias)
        return y.flatten(1) if joined else self._output(y, x_dst)

    def _score(self, adj: Adjacency, feat: Tensor, feat_dst: Tensor, edge_attr: Tensor | None = None) -> Tensor:
        """The scores of the edges before the softmax, (E, H)."""
        score = gather_src(adj, (feat * self.att_src[0]).sum(-1))
        score = score + gather_dst(adj, (feat_dst * self.att_dst[0]).sum(-1))
        if edge_attr is not None:
            score = score + self._edge_score(edge_attr)
        return F.leaky_relu(score, self.negative_slope)

    def _edge_score(self, edge_attr: Tensor) -> Tensor:
        """<att_edge, W_edge e> of each head. The product of both factors comes first: it is (H, edge_dim)."""
        weight = self.lin_edge.weight.view(self.heads, self.out_channels, -1)
        return edge_attr @ (self.att_edge[0].unsqueeze(-1) * weight).sum(1).T


class GATv2Conv(_Attention, pyg.GATv2Conv):
    """``torch_geometric.nn.GATv2Conv`` on gnnlib's kernels. Dropout draws PyG's numbers.

    Without edge features nothing of shape (E, H, C) is stored.
    """

    @routed
    def forward(
        self, x: Any, edge_index: Tensor, edge_attr: Tensor | None = None, return_attention_weights: bool | None = None
    ) -> Any:
        x_src, x_dst = pair_of(x)
        edge_index, edge_attr, adj = self._edges(edge_index, edge_attr, len(x_src), len(x_dst))
        feat = self._heads(self.lin_l, x_src)
        same = x_dst is x_src and self.share_weights
        feat_dst = feat if same else self._heads(self.lin_r, x_dst)
        if edge_attr is None:
            score = edge_score(adj, feat, feat_dst, self.att[0], self.negative_slope)
        else:
            from_src, from_dst = incidence(adj)
            hidden = aggregate(from_src, feat) + aggregate(from_dst, feat_dst) + self._heads(self.lin_edge, edge_attr)
            score = (F.leaky_relu(hidden, self.negative_slope) * self.att[0]).sum(-1)
        weights = self._weights(adj, score)
        y = self._output(aggregate(adj, feat, weights), x_dst)
        return _with_weights(y, edge_index, weights) if return_attention_weights else y
