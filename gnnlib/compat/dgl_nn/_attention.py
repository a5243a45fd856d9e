"""Attention over in-neighbours: GATConv, GATv2Conv, AGNNConv, DotGatConv and the softmax over edges."""

from typing import Any, ClassVar

from torch import Tensor
from torch.nn import functional as F

from gnnlib import ops
from gnnlib._platform.dgl import dgl
from gnnlib._utils.calls import names_checked
from gnnlib.compat.dgl_nn._adapter import Adapter, Features, is_training_dropout, ones, split_heads
from gnnlib.graph import Adjacency, adjacency
from gnnlib.ops import aggregate, attend, edge_dot, edge_score, gather_dst, gather_src


@names_checked()
def edge_softmax(graph: dgl.DGLGraph, logits: Tensor, eids: Any = dgl.base.ALL, norm_by: str = "dst") -> Tensor:
    """``dgl.nn.functional.edge_softmax``: the softmax over the in-edges, or the out-edges, of each node.

    Args:
        graph: a graph, a block or a bipartite graph
        logits: (E, \\*)
        eids: the edges; some of them are left to DGL
        norm_by: "dst" or "src"

    Returns:
        The softmax, (E, \\*).

    Raises:
        ValueError: if ``norm_by`` is unknown, or the number of rows is wrong

    Example:
        >>> import torch
        >>> import dgl
        >>> from gnnlib.compat.dgl_nn import edge_softmax
        >>> edge_softmax(dgl.graph(([0, 1], [2, 2])), torch.zeros(2, 1)).flatten().tolist()
        [0.5, 0.5]
    """
    if norm_by not in ("src", "dst"):
        raise ValueError(f"edge_softmax: expected norm_by 'dst' or 'src', got {norm_by!r}")
    if not dgl.base.is_all(eids):
        return dgl.nn.functional.edge_softmax(graph, logits, eids, norm_by)
    adj = adjacency(graph, logits.device)
    return ops.edge_softmax(adj if norm_by == "dst" else adj.reverse(), logits)


class _Attention(Adapter):
    """Linear maps of both ends, and heads."""

    two_widths: ClassVar[bool] = True
    _num_heads: int
    fc: Any
    fc_src: Any
    fc_dst: Any

    def maps(self) -> tuple[Any, Any]:
        """The linear maps of the sources and of the destinations."""
        return (self.fc_src, self.fc_dst) if hasattr(self, "fc_src") else (self.fc, self.fc)

    def heads(self, y: Tensor) -> Tensor:
        return split_heads(y, self._num_heads)

    def widths(self) -> tuple[int, int]:
        """The widths of the sources and of the destinations."""
        src, dst = self.maps()
        return src.in_features, dst.in_features


class GATConv(_Attention, dgl.nn.GATConv):
    """``dgl.nn.GATConv`` (Velickovic et al. 2018) on gnnlib's kernels.

    The arguments, values, gradients, dropout masks, errors and state dict are DGL's.

    Example:
        >>> import torch
        >>> import dgl
        >>> from gnnlib.compat.dgl_nn import GATConv
        >>> g = dgl.graph(([0, 1, 2], [1, 2, 0]))
        >>> y, alpha = GATConv(3, 2, 4, residual=True)(g, torch.ones(3, 3), get_attention=True)
        >>> y.shape, alpha.shape
        (torch.Size([3, 4, 2]), torch.Size([3, 4, 1]))
    """

    def forward(
        self,
        graph: dgl.DGLGraph,
        feat: Features,
        edge_weight: Tensor | None = None,
        get_attention: bool = False,
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Apply the layer.

        Args:
            graph: a graph, a block or a bipartite graph
            feat: features of the nodes, or a pair
            edge_weight: (E,), which multiplies the attention
            get_attention: whether to return the factor of each message too

        Shapes:
            - feat: (N, \\*, in_feats)
            - output: (N_dst, \\*, H, out_feats), and (E, \\*, H, 1) with ``get_attention``

        Returns:
            The features of the destinations, and their attention.

        Raises:
            DGLError: if a node has no in-edge, or the number of rows is wrong
            TypeError: if features are no floating-point tensor
            ValueError: if a width is wrong
        """
        widths = self.widths()
        adj, x_src, x_dst = self.ends(graph, feat, widths[0])
        self.check_dst(adj, x_dst, widths[1])
        self.check_in_degrees(adj)
        (fc_src, fc_dst), pair = self.maps(), isinstance(feat, tuple)
        x_src = self.feat_drop(x_src)
        x_dst = self.feat_drop(x_dst) if pair else x_src[: adj.num_dst]
        h_src = self.heads(fc_src(x_src))
        h_dst = self.heads(fc_dst(x_dst)) if pair else None
        bias = None if self.bias is None else self.heads(self.bias)
        weight = self.edge_weights(adj, edge_weight)
        if weight is not None:
            weight = weight.to(h_src).view(-1, *[1] * (h_src.dim() - 2))
        if get_attention:
            y, alpha = self._with_attention(adj, h_src, h_dst, weight)
            y = y if bias is None else y + bias
        else:
            if is_training_dropout(self.attn_drop):
                mask = self.attn_drop(ones(adj, h_src, *h_src.shape[1:-1]))
                weight = mask if weight is None else mask * weight
            slope = self.leaky_relu.negative_slope
            y = attend(adj, h_src, self.attn_l[0], self.attn_r[0], h_dst, slope, _expand(weight, h_src), bias)
        if self.res_fc is not None:
            y = y + self.res_fc(x_dst).view(y.shape)
        y = self.activation(y) if self.activation else y
        return (y, alpha.unsqueeze(-1)) if get_attention else y

    def _with_attention(
        self, adj: Adjacency, h_src: Tensor, h_dst: Tensor | None, weight: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        score_src = (h_src * self.attn_l[0]).sum(-1)
        score_dst = ((h_src[: adj.num_dst] if h_dst is None else h_dst) * self.attn_r[0]).sum(-1)
        score = self.leaky_relu(gather_src(adj, score_src) + gather_dst(adj, score_dst))
        alpha = self.attn_drop(ops.edge_softmax(adj, score))
        alpha = alpha if weight is None else alpha * weight
        return aggregate(adj, h_src, alpha), alpha


def _expand(weight: Tensor | None, h: Tensor) -> Tensor | None:
    """Weights (E, 1, ...) with the axes of heads."""
    return None if weight is None else weight.expand(len(weight), *h.shape[1:-1])


class GATv2Conv(_Attention, dgl.nn.GATv2Conv):
    """``dgl.nn.GATv2Conv`` (Brody et al. 2022) on gnnlib's kernels.

    The arguments, values, gradients, dropout masks, errors and state dict are DGL's.

    Example:
        >>> import torch
        >>> import dgl
        >>> from gnnlib.compat.dgl_nn import GATv2Conv
        >>> GATv2Conv(3, 2, 4)(dgl.graph(([0, 1, 2], [1, 2, 0])), torch.ones(3, 3)).shape
        torch.Size([3, 4, 2])
    """

    def forward(
        self, graph: dgl.DGLGraph, feat: Features, get_attention: bool = False
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Apply the layer.

        Args:
            graph: a graph, a block or a bipartite graph
            feat: features of the nodes, or a pair
            get_attention: whether to return the attention too

        Shapes:
            - feat: (N, in_feats)
            - output: (N_dst, H, out_feats), and (E, H, 1) with ``get_attention``

        Returns:
            The features of the destinations, and their attention.

        Raises:
            DGLError: if a node has no in-edge, or the number of rows is wrong
            TypeError: if features are no floating-point tensor
            ValueError: if a width is wrong
        """
        widths = self.widths()
        adj, x_src, x_dst = self.ends(graph, feat, widths[0])
        self.check_dst(adj, x_dst, widths[1])
        self.check_in_degrees(adj)
        pair = isinstance(feat, tuple)
        x_src = self.feat_drop(x_src)
        x_dst = self.feat_drop(x_dst) if pair else x_src[: adj.num_dst]
        h_src = self.heads(self.fc_src(x_src))
        shared = self.fc_dst is self.fc_src and not pair
        h_dst = h_src[: adj.num_dst] if shared else self.heads(self.fc_dst(x_dst))
        score = edge_score(adj, h_src, h_dst, self.attn[0], self.leaky_relu.negative_slope)
        alpha = self.attn_drop(ops.edge_softmax(adj, score))
        y = aggregate(adj, h_src, alpha)
        if self.res_fc is not None:
            y = y + self.res_fc(x_dst).view(y.shape)
        y = self.activation(y) if self.activation else y
        return (y, alpha.unsqueeze(-1)) if get_attention else y


class DotGatConv(_Attention, dgl.nn.DotGatConv):
    """``dgl.nn.DotGatConv``, attention by scaled dot products, on gnnlib's kernels.

    The arguments, values, gradients, errors and state dict are DGL's.

    Example:
        >>> import torch
        >>> import dgl
        >>> from gnnlib.compat.dgl_nn import DotGatConv
        >>> DotGatConv(3, 2, 4)(dgl.graph(([0, 1, 2], [1, 2, 0])), torch.ones(3, 3)).shape
        torch.Size([3, 4, 2])
    """

    def forward(
        self, graph: dgl.DGLGraph, feat: Features, get_attention: bool = False
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Apply the layer.

        Args:
            graph: a graph, a block or a bipartite graph
            feat: features of the nodes, (N, in_feats), or a pair
            get_attention: whether to return the attention too

        Returns:
            The features of the destinations, (N_dst, H, out_feats), and the attention, (E, H, 1).

        Raises:
            DGLError: if a node has no in-edge, or the number of rows is wrong
            TypeError: if features are no floating-point tensor
            ValueError: if a width is wrong
        """
        widths = self.widths()
        adj, x_src, x_dst = self.ends(graph, feat, widths[0])
        self.check_dst(adj, x_dst, widths[1])
        self.check_in_degrees(adj)
        fc_src, fc_dst = self.maps()
        h_src = self.heads(fc_src(x_src))
        h_dst = self.heads(fc_dst(x_dst)) if isinstance(feat, tuple) else h_src[: adj.num_dst]
        alpha = ops.edge_softmax(adj, edge_dot(adj, h_src, h_dst) / self._out_feats**0.5)
        y = aggregate(adj, h_src, alpha)
        return (y, alpha.unsqueeze(-1)) if get_attention else y


class AGNNConv(Adapter, dgl.nn.AGNNConv):
    """``dgl.nn.AGNNConv`` (Thekumparampil et al. 2018) on gnnlib's kernels.

    The arguments, values, gradients, errors and state dict are DGL's.

    Example:
        >>> import torch
        >>> import dgl
        >>> from gnnlib.compat.dgl_nn import AGNNConv
        >>> AGNNConv()(dgl.graph(([0, 1, 2], [1, 2, 0])), torch.ones(3, 3)).shape
        torch.Size([3, 3])
    """

    def forward(self, graph: dgl.DGLGraph, feat: Features) -> Tensor:
        """Apply the layer.

        Args:
            graph: a graph, a block or a bipartite graph
            feat: features of the nodes, (N, \\*, F), or a pair

        Returns:
            The features of the destinations, (N_dst, \\*, F).

        Raises:
            DGLError: if a node has no in-edge, or the number of rows is wrong
            TypeError: if features are no floating-point tensor
        """
        adj, x_src, x_dst = self.ends(graph, feat)
        self.check_dst(adj, x_dst, x_src.shape[-1])
        self.check_in_degrees(adj)
        h_src = F.normalize(x_src, p=2, dim=-1)
        h_dst = F.normalize(x_dst, p=2, dim=-1) if isinstance(feat, tuple) else h_src[: adj.num_dst]
        return aggregate(adj, x_src, ops.edge_softmax(adj, self.beta * edge_dot(adj, h_src, h_dst)))
