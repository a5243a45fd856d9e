"""Graph attention: a weighted average over neighbours whose weights are learned."""

from typing import ClassVar

from torch import Tensor, nn
from torch.nn.functional import leaky_relu

from gnnlib._platform.dgl import dgl
from gnnlib.nn.conv.base import Conv, Features, _pair, add_bias, glorot, zeros
from gnnlib.ops import aggregate, attend, edge_score, edge_softmax, gather_dst, gather_src
from gnnlib.ops.linear import Linear


class _Attention(Conv):
    """From scores along the edges to the attended average; what GAT and GATv2 share."""

    takes_edge: ClassVar[str | None] = "weight"

    def __init__(self, in_feats, out_feats: int, num_heads: int, negative_slope: float, attn_drop: float):
        super().__init__(in_feats, out_feats)
        if not isinstance(num_heads, int) or num_heads < 1:
            raise ValueError(f"{self._name}: expected num_heads >= 1, got {num_heads}")
        self.num_heads, self.negative_slope = num_heads, negative_slope
        self.attn_drop = nn.Dropout(attn_drop)

    def heads(self, y: Tensor) -> Tensor:
        """(N, *, H * out) -> (N, *, H, out)"""
        return y.unflatten(-1, (self.num_heads, self.out_feats))

    def drop(self, prob: Tensor, edge: Tensor | None) -> Tensor:
        """What multiplies each message: prob (E, *, H) after dropout, times the edge weights."""
        prob = self.attn_drop(prob)
        return prob if edge is None else prob * edge.to(prob).view(-1, *[1] * (prob.dim() - 1))

    def average(self, graph: dgl.DGLGraph, feat: Tensor, score: Tensor, edge: Tensor | None) -> tuple[Tensor, Tensor]:
        prob = self.drop(edge_softmax(graph, score), edge)
        return aggregate(graph, feat, prob), prob

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, num_heads={self.num_heads}"


class GATConv(_Attention):
    r"""Graph attention (Velickovic et al. 2018, arXiv 1710.10903, equations 1 to 4), H heads side by side.

    .. math:: y_v = \sum_{u \to v} \alpha_{uv} x_u W + c, \qquad
        \alpha_{uv} = \operatorname{softmax}_u \mathrm{LeakyReLU}(a_l \cdot x_u W + a_r \cdot x_v W)

    Args:
        in_feats: width of x, or (source, destination) widths, with a W for each
        out_feats, num_heads: width and number of heads
        negative_slope: of the LeakyReLU
        attn_drop: dropout on alpha, after the softmax
        bias: whether to add c

    Shapes: x (N, \*, in_feats) or a pair; edge None or weights (E,), which multiply alpha; returns
    (N_dst, \*, H, out_feats); with ``get_attention=True`` also what multiplied each message, (E, \*, H).

    Raises: ValueError or TypeError, naming expected and received, for x or edge of a wrong shape or dtype, or
    where a graph with two node sets comes without a pair.

    Differs from the paper: heads are returned, not concatenated (``.flatten(-2)``) or averaged (``.mean(-2)``);
    the activation is the caller's; self-loops too. A node without in-edges gets c.
    State dicts of ``dgl.nn.GATConv`` load.

    >>> import torch
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
        negative_slope: float = 0.2,
        attn_drop: float = 0.0,
        bias: bool = True,
    ):
        super().__init__(in_feats, out_feats, num_heads, negative_slope, attn_drop)
        width = num_heads * out_feats
        if isinstance(in_feats, tuple):
            self.fc_src, self.fc_dst = (Linear(n, width, bias=False) for n in in_feats)
        else:
            self.fc = Linear(in_feats, width, bias=False)
        self.attn_l, self.attn_r = glorot(1, num_heads, out_feats), glorot(1, num_heads, out_feats)
        self.bias = zeros(width) if bias else None
        gain = nn.init.calculate_gain("relu")
        for parameter in self.parameters():
            if parameter.dim() > 1:
                nn.init.xavier_normal_(parameter, gain)

    def forward(
        self, graph: dgl.DGLGraph, x: Features, edge: Tensor | None = None, get_attention: bool = False
    ) -> Tensor | tuple[Tensor, Tensor]:
        x_src, x_dst = self.both_ends(graph, x)
        self.check_edge(graph, edge)
        fc_src, fc_dst = (self.fc_src, self.fc_dst) if isinstance(self.in_feats, tuple) else (self.fc, self.fc)
        feat, att_src, att_dst = self.heads(fc_src(x_src)), self.attn_l[0], self.attn_r[0]
        own = self.heads(fc_dst(x_dst)) if isinstance(x, tuple) else None
        bias = None if self.bias is None else self.heads(self.bias)
        if get_attention:
            left = (feat * att_src).sum(-1)
            right = ((feat[: len(x_dst)] if own is None else own) * att_dst).sum(-1)
            score = leaky_relu(gather_src(graph, left) + gather_dst(graph, right), self.negative_slope)
            y, alpha = self.average(graph, feat, score, edge)
            return add_bias(y, bias), alpha
        if self.training and self.attn_drop.p:
            edge = self.drop(feat.new_ones(graph.num_edges(), *feat.shape[1:-1]), edge)
        return attend(graph, feat, att_src, att_dst, own, self.negative_slope, edge, bias)


class GATv2Conv(_Attention):
    r"""Graph attention in which each node ranks its neighbours its own way (Brody et al. 2022, arXiv 2105.14491,
    equation 7).

    .. math:: y_v = \sum_{u \to v} \alpha_{uv} x_u W_l, \qquad
        \alpha_{uv} = \operatorname{softmax}_u\, a \cdot \mathrm{LeakyReLU}(x_u W_l + x_v W_r)

    Args: as `GATConv`; ``bias`` belongs to W_l and W_r; ``share_weights`` sets W_r = W_l.

    Shapes, errors: as `GATConv`.

    Differs from the paper: as `GATConv`. A node without in-edges gets 0.
    State dicts of ``dgl.nn.GATv2Conv`` load.

    >>> import torch
    >>> g = dgl.graph(([0, 1, 2], [2, 2, 2]))
    >>> GATv2Conv(3, 2, num_heads=4)(g, torch.ones(3, 3)).shape
    torch.Size([3, 4, 2])
    """

    def __init__(
        self,
        in_feats: int | tuple[int, int],
        out_feats: int,
        num_heads: int = 1,
        negative_slope: float = 0.2,
        attn_drop: float = 0.0,
        bias: bool = True,
        share_weights: bool = False,
    ):
        super().__init__(in_feats, out_feats, num_heads, negative_slope, attn_drop)
        width_src, width_dst = _pair(in_feats)
        if share_weights and width_src != width_dst:
            raise ValueError(f"GATv2Conv: shared weights need equal widths, got {in_feats}")
        self.fc_src = Linear(width_src, num_heads * out_feats, bias=bias)
        self.fc_dst = self.fc_src if share_weights else Linear(width_dst, num_heads * out_feats, bias=bias)
        self.attn = glorot(1, num_heads, out_feats)
        gain = nn.init.calculate_gain("relu")
        for name, parameter in self.named_parameters():
            if name.endswith("bias"):
                nn.init.zeros_(parameter)
            else:
                nn.init.xavier_normal_(parameter, gain)

    def forward(
        self, graph: dgl.DGLGraph, x: Features, edge: Tensor | None = None, get_attention: bool = False
    ) -> Tensor | tuple[Tensor, Tensor]:
        x_src, x_dst = self.both_ends(graph, x)
        self.check_edge(graph, edge)
        left = self.heads(self.fc_src(x_src))
        if self.fc_dst is self.fc_src and not isinstance(x, tuple):
            right = left[: len(x_dst)]  # in a block the destinations are the first sources
        else:
            right = self.heads(self.fc_dst(x_dst))
        y, alpha = self.average(graph, left, self._scores(graph, left, right), edge)
        return (y, alpha) if get_attention else y

    def _scores(self, graph: dgl.DGLGraph, a: Tensor, b: Tensor) -> Tensor:
        """a (N_src, *, H, out), b (N_dst, *, H, out) -> (E, *, H)"""
        signals = a.shape[1:-1]
        att = self.attn[0].expand(*signals, self.out_feats).reshape(-1, self.out_feats)
        a, b = (t.reshape(len(t), len(att), self.out_feats) for t in (a, b))
        return edge_score(graph, a, b, att, self.negative_slope).unflatten(1, signals)
