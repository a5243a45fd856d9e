"""Graph attention: a weighted average over neighbours with learned weights."""

from typing import ClassVar

from torch import Tensor, nn
from torch.nn.functional import leaky_relu

from gnnlib.graph import GraphLike
from gnnlib.nn._arguments import integer, number, probability
from gnnlib.nn.conv.base import Conv, Features, add_bias, empty, empty_linear, width_pair, zeros
from gnnlib.ops import aggregate, attend, edge_score, edge_softmax, gather_dst, gather_src


class _Attention(Conv):
    """From attention scores to the weighted average: what GAT and GATv2 share."""

    takes_edge: ClassVar[str | None] = "weight"
    two_widths: ClassVar[bool] = True

    def __init__(self, in_feats, out_feats: int, num_heads: int, *, negative_slope: float, attn_drop: float):
        super().__init__(in_feats, out_feats)
        self.num_heads = integer(self, "num_heads", num_heads)
        self.negative_slope = float(number(self, "negative_slope", negative_slope))
        self.attn_drop = nn.Dropout(float(probability(self, "attn_drop", attn_drop)))

    def reset_parameters(self) -> None:
        """Draw weights as ``dgl.nn`` does; biases are 0."""
        super().reset_parameters()
        for attention in self.parameters(recurse=False):
            if attention.dim() > 1:
                nn.init.xavier_uniform_(attention)
        gain = nn.init.calculate_gain("relu")
        for parameter in self.parameters():
            if parameter.dim() > 1:
                nn.init.xavier_normal_(parameter, gain)
            else:
                nn.init.zeros_(parameter)

    def heads(self, y: Tensor) -> Tensor:
        """(N, *, H * out) -> (N, *, H, out)"""
        return y.unflatten(-1, (self.num_heads, self.out_feats))

    def drop(self, prob: Tensor, edge: Tensor | None) -> Tensor:
        """The factor of each message: prob (E, *, H) after dropout, times the edge weights."""
        prob = self.attn_drop(prob)
        return prob if edge is None else prob * edge.to(prob).view(-1, *[1] * (prob.dim() - 1))

    def average(self, graph: GraphLike, feat: Tensor, score: Tensor, edge: Tensor | None) -> tuple[Tensor, Tensor]:
        """The weighted average of feat (N_src, *, H, out), and the factors (E, *, H)."""
        prob = self.drop(edge_softmax(graph, score), edge)
        return aggregate(graph, feat, prob), prob


class GATConv(_Attention):
    r"""Graph attention (Velickovic et al. 2018, arXiv 1710.10903, equations 1 to 4) with H heads.

    .. math:: y_v = \sum_{u \to v} \alpha_{uv} x_u W + c, \qquad
        \alpha_{uv} = \operatorname{softmax}_u \mathrm{LeakyReLU}(a_l \cdot x_u W + a_r \cdot x_v W)

    Differs from the paper: heads are returned, not concatenated (``.flatten(-2)``) or averaged (``.mean(-2)``);
    activation and self-loops are the caller's. A node without in-edges gets c.
    State dicts of ``dgl.nn.GATConv`` load.

    Args:
        in_feats: width of the node features, or (source, destination) widths, with a W for each
        out_feats: width of each head
        num_heads: number of heads H
        negative_slope: of the LeakyReLU
        attn_drop: dropout probability of alpha, after the softmax
        bias: whether to add c

    Shapes:
        - x: (N, \*, in_feats), or a pair (x_src, x_dst)
        - edge: weights (E,) or (E, 1), which multiply alpha, or None
        - output: (N_dst, \*, H, out_feats)

    Raises:
        ValueError: if an argument is out of range, a shape is wrong, or a graph with two node sets comes without a pair
        TypeError: if x or edge is no floating-point tensor

    Example:
        >>> import torch
        >>> from gnnlib import GATConv
        >>> import dgl
        >>> g = dgl.graph(([0, 1, 2], [2, 2, 2]))
        >>> y, alpha = GATConv(3, 2, num_heads=4)(g, torch.ones(3, 3), get_attention=True)
        >>> y.shape, alpha[:, 0].sum().item()
        (torch.Size([3, 4, 2]), 1.0)
    """

    def __init__(
        self,
        in_feats: int | tuple[int, int],
        out_feats: int,
        num_heads: int = 1,
        *,
        negative_slope: float = 0.2,
        attn_drop: float = 0.0,
        bias: bool = True,
    ):
        super().__init__(in_feats, out_feats, num_heads, negative_slope=negative_slope, attn_drop=attn_drop)
        width = self.num_heads * self.out_feats
        if isinstance(self.in_feats, tuple):
            self.fc_src, self.fc_dst = (empty_linear(feats, width, bias=False) for feats in self.in_feats)
        else:
            self.fc = empty_linear(self.in_feats, width, bias=False)
        self.attn_l, self.attn_r = (empty(1, self.num_heads, self.out_feats) for _ in range(2))
        self.bias = zeros(width) if bias else None
        self.reset_parameters()

    def forward(
        self, graph: GraphLike, x: Features, edge: Tensor | None = None, *, get_attention: bool = False
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Apply the layer.

        Args:
            graph: a graph, a block or a bipartite graph
            x: node features
            edge: edge weights
            get_attention: whether to return the attention too

        Shapes:
            as of the class

        Returns:
            the features of the destinations; with ``get_attention`` also the factor of each message, (E, \\*, H)
        """
        x_src, x_dst = self.src_dst_features(graph, x)
        edge = self.check_edge(graph, edge)
        fc_src, fc_dst = (self.fc_src, self.fc_dst) if isinstance(self.in_feats, tuple) else (self.fc, self.fc)
        feat_src, att_src, att_dst = self.heads(fc_src(x_src)), self.attn_l[0], self.attn_r[0]
        feat_dst = self.heads(fc_dst(x_dst)) if isinstance(x, tuple) else None
        bias = None if self.bias is None else self.heads(self.bias)
        if get_attention:
            score_src = (feat_src * att_src).sum(-1)
            score_dst = ((feat_src[: len(x_dst)] if feat_dst is None else feat_dst) * att_dst).sum(-1)
            score = leaky_relu(gather_src(graph, score_src) + gather_dst(graph, score_dst), self.negative_slope)
            y, alpha = self.average(graph, feat_src, score, edge)
            return add_bias(y, bias), alpha
        if self.training and self.attn_drop.p:
            edge = self.drop(feat_src.new_ones(graph.num_edges(), *feat_src.shape[1:-1]), edge)
        return attend(graph, feat_src, att_src, att_dst, feat_dst, self.negative_slope, edge, bias)


class GATv2Conv(_Attention):
    r"""Graph attention whose ranking of neighbours depends on the node (Brody et al. 2022, arXiv 2105.14491,
    equation 7).

    .. math:: y_v = \sum_{u \to v} \alpha_{uv} x_u W_l, \qquad
        \alpha_{uv} = \operatorname{softmax}_u\, a \cdot \mathrm{LeakyReLU}(x_u W_l + x_v W_r)

    Differs from the paper: heads are returned, not concatenated (``.flatten(-2)``) or averaged (``.mean(-2)``);
    activation and self-loops are the caller's. A node without in-edges gets 0.
    State dicts of ``dgl.nn.GATv2Conv`` load.

    Args:
        in_feats: width of the node features, or (source, destination) widths
        out_feats: width of each head
        num_heads: number of heads H
        negative_slope: of the LeakyReLU
        attn_drop: dropout probability of alpha, after the softmax
        bias: whether W_l and W_r have a bias
        share_weights: whether W_r is W_l

    Shapes:
        - x: (N, \*, in_feats), or a pair (x_src, x_dst)
        - edge: weights (E,) or (E, 1), which multiply alpha, or None
        - output: (N_dst, \*, H, out_feats)

    Raises:
        ValueError: if an argument is out of range, a shape is wrong, or a graph with two node sets comes without a pair
        TypeError: if x or edge is no floating-point tensor

    Example:
        >>> import torch
        >>> from gnnlib import GATv2Conv
        >>> import dgl
        >>> g = dgl.graph(([0, 1, 2], [2, 2, 2]))
        >>> GATv2Conv(3, 2, num_heads=4)(g, torch.ones(3, 3)).shape
        torch.Size([3, 4, 2])
    """

    def __init__(
        self,
        in_feats: int | tuple[int, int],
        out_feats: int,
        num_heads: int = 1,
        *,
        negative_slope: float = 0.2,
        attn_drop: float = 0.0,
        bias: bool = True,
        share_weights: bool = False,
    ):
        super().__init__(in_feats, out_feats, num_heads, negative_slope=negative_slope, attn_drop=attn_drop)
        src_feats, dst_feats = width_pair(self.in_feats)
        if share_weights and src_feats != dst_feats:
            raise ValueError(f"GATv2Conv: expected equal widths for shared weights, got {in_feats}")
        self.share_weights = share_weights
        width = self.num_heads * self.out_feats
        self.fc_src = empty_linear(src_feats, width, bias=bias)
        self.fc_dst = self.fc_src if share_weights else empty_linear(dst_feats, width, bias=bias)
        self.attn = empty(1, self.num_heads, self.out_feats)
        self.reset_parameters()

    @property
    def bias(self) -> Tensor | None:
        """The bias of W_l, or None."""
        return self.fc_src.bias

    def forward(
        self, graph: GraphLike, x: Features, edge: Tensor | None = None, *, get_attention: bool = False
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Apply the layer.

        Args:
            graph: a graph, a block or a bipartite graph
            x: node features
            edge: edge weights
            get_attention: whether to return the attention too

        Shapes:
            as of the class

        Returns:
            the features of the destinations; with ``get_attention`` also the factor of each message, (E, \\*, H)
        """
        x_src, x_dst = self.src_dst_features(graph, x)
        edge = self.check_edge(graph, edge)
        feat_src = self.heads(self.fc_src(x_src))
        if self.fc_dst is self.fc_src and not isinstance(x, tuple):
            feat_dst = feat_src[: len(x_dst)]  # in a block the destinations are the first sources
        else:
            feat_dst = self.heads(self.fc_dst(x_dst))
        y, alpha = self.average(graph, feat_src, self._scores(graph, feat_src, feat_dst), edge)
        return (y, alpha) if get_attention else y

    def _scores(self, graph: GraphLike, a: Tensor, b: Tensor) -> Tensor:
        """a (N_src, *, H, out), b (N_dst, *, H, out) -> (E, *, H)"""
        signals = a.shape[1:-1]
        att = self.attn[0].expand(*signals, self.out_feats).reshape(-1, self.out_feats)
        a, b = (t.reshape(len(t), len(att), self.out_feats) for t in (a, b))
        return edge_score(graph, a, b, att, self.negative_slope).unflatten(1, signals)
