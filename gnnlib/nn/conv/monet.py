"""Mixture model convolution: Gaussian kernels on the pseudo-coordinates of edges, with a weight matrix each."""

from typing import ClassVar

import torch
from torch import Tensor, nn

from gnnlib.graph import GraphLike
from gnnlib.nn._arguments import integer, one_of
from gnnlib.nn.conv.base import Conv, Features, add_bias, empty, empty_linear, width_pair
from gnnlib.ops import convolve
from gnnlib.ops.degrees import mean_from_sum


class MoNetConv(Conv):
    r"""Mixture model convolution (Monti et al. 2017, arXiv 1611.08402, equations 9 to 11), K Gaussians with diagonal
    covariances.

    .. math:: y_v = \sum_{u \to v} \sum_k w_k(e_{uv})\, x_u W_k + c, \qquad
        w_k(e) = \exp\Big(-\tfrac12 \sum_a \big(s_{ka} (e_a - \mu_{ka})\big)^2\Big)

    The pseudo-coordinates e of an edge are given as its features: relative positions, polar or not, or functions of
    both degrees. Gaussians are initialised with width 1 about 0: scale the coordinates to about 1. Memory: (E, K, dim).

    Differs from the paper: the small network that it puts before the Gaussians, on the pseudo-coordinates, is the
    caller's. A node without in-edges gets c. State dicts of ``dgl.nn.GMMConv`` load, without its residual.

    Args:
        in_feats: width of the node features, or (source, destination) widths, of which the second is not used
        out_feats: width of the output
        dim: number of pseudo-coordinates
        num_kernels: number of Gaussians K
        reduce: "sum" (the paper's) or "mean"
        bias: whether to add c

    Shapes:
        - x: (N, \*, in_feats), or a pair whose second part is not used
        - edge: pseudo-coordinates (E, dim)
        - output: (N_dst, \*, out_feats)

    Raises:
        ValueError: if an argument is out of range, or a shape is wrong
        TypeError: if x or edge is no floating-point tensor

    Example:
        >>> import torch
        >>> from gnnlib import MoNetConv
        >>> from gnnlib.images import superpixel_graph
        >>> g = superpixel_graph(torch.rand(28, 28), num_segments=20, k=8)
        >>> near = g.edata["offset"] / g.edata["distance"].mean()  # neighbours at distances of about 1
        >>> MoNetConv(1, 4, dim=2, num_kernels=5)(g, g.ndata["feat"], near).shape[1]
        4
    """

    takes_edge: ClassVar[str | None] = "feature"
    two_widths: ClassVar[bool] = True

    def __init__(
        self,
        in_feats: int | tuple[int, int],
        out_feats: int,
        dim: int,
        num_kernels: int,
        *,
        reduce: str = "sum",
        bias: bool = True,
    ):
        super().__init__(in_feats, out_feats)
        self.dim = integer(self, "dim", dim)
        self.num_kernels = integer(self, "num_kernels", num_kernels)
        self.reduce = one_of(self, "reduce", reduce, ("sum", "mean"))
        self.fc = empty_linear(width_pair(self.in_feats)[0], self.num_kernels * self.out_feats, bias=False)
        self.mu = empty(self.num_kernels, self.dim)
        self.inv_sigma = empty(self.num_kernels, self.dim)
        self.bias = empty(self.out_feats) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the weights anew, and Gaussians of width 1 about 0."""
        super().reset_parameters()
        with torch.no_grad():
            self.mu.normal_().mul_(0.1)
        nn.init.ones_(self.inv_sigma)
        if self.bias is not None:
            nn.init.zeros_(self.bias)
        nn.init.xavier_normal_(self.fc.weight, nn.init.calculate_gain("relu"))

    def kernels(self, edge: Tensor) -> Tensor:
        """w_k of every edge: (E, K)."""
        return gaussians(edge, self.mu, self.inv_sigma)

    def forward(self, graph: GraphLike, x: Features, edge: Tensor | None = None) -> Tensor:
        """Apply the layer.

        Args:
            graph: a graph, a block or a bipartite graph
            x: node features
            edge: pseudo-coordinates of the edges

        Shapes:
            as of the class

        Returns:
            the features of the destinations
        """
        x, _ = self.src_features(graph, x)
        self.check_edge(graph, edge, self.dim)
        weight = self.fc.weight.view(self.num_kernels, self.out_feats, -1).transpose(1, 2)
        y = convolve(graph, x, self.kernels(edge), weight)  # type: ignore[arg-type]
        return add_bias(y if self.reduce == "sum" else mean_from_sum(graph, y), self.bias)


def gaussians(edge: Tensor, mu: Tensor, inv_sigma: Tensor) -> Tensor:
    """K Gaussians (K, dim) at the pseudo-coordinates (E, dim) of the edges: (E, K)."""
    distance = (edge.unsqueeze(1) - mu) * inv_sigma
    return (-0.5 * distance.square().sum(-1)).exp()
