"""Mixture model convolution: Gaussian windows on the pseudo-coordinates of edges, each with a matrix."""

from typing import ClassVar

import torch
from torch import Tensor, nn

from gnnlib._platform.dgl import dgl
from gnnlib.nn.conv.base import Conv, Features, add_bias, zeros
from gnnlib.ops import convolve
from gnnlib.ops.degrees import mean_from_sum
from gnnlib.ops.linear import Linear


class MoNetConv(Conv):
    r"""Mixture model convolution (Monti et al. 2017, arXiv 1611.08402, equations 9 to 11), K Gaussians with diagonal
    covariances.

    .. math:: y_v = \sum_{u \to v} \sum_k w_k(e_{uv})\, x_u W_k + c, \qquad
        w_k(e) = \exp\Big(-\tfrac12 \sum_a \big(s_{ka} (e_a - \mu_{ka})\big)^2\Big)

    The pseudo-coordinates e of an edge are given as its features: relative positions, polar or not, or functions of
    both degrees. Gaussians start at width 1 about 0: bring the coordinates to such numbers.

    Args:
        in_feats, out_feats: widths
        dim: number of pseudo-coordinates
        num_kernels: K
        reduce: "sum" (the paper's) or "mean"
        bias: whether to add c

    Shapes: x (N, \*, in_feats), or a pair whose second part is not used; edge (E, dim); returns
    (N_dst, \*, out_feats). Memory: (E, K, dim).

    Raises: ValueError or TypeError, naming expected and received, for options out of range, or x or edge of a wrong
    shape or dtype.

    Differs from the paper: the small network that it puts before the Gaussians, on the pseudo-coordinates, is the
    caller's. A node without in-edges gets c. State dicts of ``dgl.nn.GMMConv`` load, without its residual.

    >>> from gnnlib.images import superpixel_graph
    >>> g = superpixel_graph(torch.rand(28, 28), num_segments=20, k=8)
    >>> near = g.edata["offset"] / g.edata["distance"].mean()  # neighbours at distances of about 1
    >>> MoNetConv(1, 4, dim=2, num_kernels=5)(g, g.ndata["feat"], near).shape[1]
    4
    """

    takes_edge: ClassVar[str | None] = "feature"

    def __init__(
        self, in_feats: int, out_feats: int, dim: int, num_kernels: int, reduce: str = "sum", bias: bool = True
    ):
        super().__init__(in_feats, out_feats)
        if min(dim, num_kernels) < 1:
            raise ValueError(f"MoNetConv: expected positive dim and num_kernels, got {dim} and {num_kernels}")
        if reduce not in ("sum", "mean"):
            raise ValueError(f"MoNetConv: expected reduce to be 'sum' or 'mean', got {reduce!r}")
        self.dim, self.num_kernels, self.reduce = dim, num_kernels, reduce
        self.fc = Linear(in_feats, num_kernels * out_feats, bias=False)
        self.mu = nn.Parameter(0.1 * torch.randn(num_kernels, dim))
        self.inv_sigma = nn.Parameter(torch.ones(num_kernels, dim))
        self.bias = zeros(out_feats) if bias else None
        nn.init.xavier_normal_(self.fc.weight, nn.init.calculate_gain("relu"))

    def kernels(self, edge: Tensor) -> Tensor:
        """w_k of every edge: (E, K)."""
        away = (edge.unsqueeze(1) - self.mu) * self.inv_sigma
        return (-0.5 * away.square().sum(-1)).exp()

    def forward(self, graph: dgl.DGLGraph, x: Features, edge: Tensor | None = None) -> Tensor:
        x, _ = self.ends(graph, x)
        self.check_edge(graph, edge, self.dim)
        weight = self.fc.weight.view(self.num_kernels, self.out_feats, -1).transpose(1, 2)
        y = convolve(graph, x, self.kernels(edge), weight)  # type: ignore[arg-type]
        return add_bias(y if self.reduce == "sum" else mean_from_sum(graph, y), self.bias)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, dim={self.dim}, num_kernels={self.num_kernels}"
