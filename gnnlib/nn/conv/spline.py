"""Spline convolution: weights on a lattice of knots, interpolated by B-splines of the relative position."""

from collections.abc import Sequence
from math import prod
from typing import ClassVar

import torch
from torch import Tensor, nn

from gnnlib.graph import GraphLike, takes_graph
from gnnlib.nn._arguments import integer, integers, one_of, positive
from gnnlib.nn.conv.base import Conv, Features, add_bias, add_reusing_memory, empty, width_pair
from gnnlib.ops import convolve, gather_dst, gather_src
from gnnlib.ops.degrees import mean_from_sum

__all__ = ["SplineConv", "spline_basis"]


def spline_basis(position: Tensor, num: int, degree: int = 1) -> Tensor:
    r"""Uniform B-splines of one axis (Cox 1972, de Boor 1972): ``num`` splines on the interval 0 to num - degree.

    .. math:: N_i^0(t) = [i \le t + m < i + 1], \qquad
        N_i^d(t) = \frac{s\, N_i^{d-1}(t) + (d + 1 - s)\, N_{i+1}^{d-1}(t)}{d}, \quad s = t + m - i

    with the degree m. All are at least 0 and sum to 1; a position outside of the interval counts as its nearer end.
    Degree 1: a hat on each of the positions 0 to num - 1, so whole numbers are one-hot.

    Args:
        position: t, in distances between knots
        num: number of splines
        degree: m, at least 1

    Shapes:
        - position: (\*)
        - output: (\*, num)

    Returns:
        the values of the splines

    Example:
        >>> import torch
        >>> from gnnlib.nn.conv.spline import spline_basis
        >>> spline_basis(torch.tensor([0.0, 2.0, 1.25, 7.0]), 3).tolist()
        [[1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, 0.75, 0.25], [0.0, 0.0, 1.0]]
    """
    s = position.clamp(0, num - degree).unsqueeze(-1) + degree - torch.arange(num + degree, device=position.device)
    basis = ((s >= 0) & (s < 1)).to(position)
    for d in range(1, degree + 1):
        s = s[..., :-1]
        basis = (s * basis[..., :-1] + (d + 1 - s) * basis[..., 1:]) / d
    return basis


class SplineConv(Conv):
    r"""Spline convolution (Fey et al. 2018, arXiv 1711.08920, section 3): a matrix for each tap of a window, and in
    between them the tensor product of B-splines.

    .. math:: y_v = \frac{1}{d_v} \sum_{u \to v} \sum_k B_k(p_u - p_v)\, x_u W_k + x_v W_\mathrm{root} + c, \qquad
        B_k(o) = \prod_a N_{k_a}\Big(\frac{o_a}{\mathrm{spacing}} + \frac{\mathrm{kernel\_size}_a - m}{2}\Big)

    With degree m = 1 and an odd window each tap is a whole offset: on a pixel graph the sum is ``torch.nn.Conv2d``, and
    the same weights serve superpixels. See `spline_basis` for N. ``weight`` is (K, in_feats, out_feats), K =
    prod(kernel_size) taps in row-major order: ``conv2d.weight.flatten(2).permute(2, 1, 0)``. Memory: (E, K).

    Differs from the paper: offsets come from positions, which are not scaled to 0..1 over a data set. PyG's layer
    takes them along edges and has W_root by default. A node without in-edges gets x_v W_root + c.

    Args:
        in_feats: width of the node features, or (source, destination) widths
        out_feats: width of the output
        kernel_size: taps along each axis of the positions, at least ``degree``; an int is square, for two axes
        degree: m of the B-splines, at least 1
        spacing: pixels between taps; offsets of more than spacing (kernel_size - m) / 2 along an axis are cut to that
        reduce: "mean" (the paper's) or "sum" (a convolution's)
        root: whether to add x_v W_root
        bias: whether to add c

    Shapes:
        - x: (N, \*, in_feats), or a pair (x_src, x_dst), whose second part is used with ``root`` only
        - ``graph.srcdata["pos"]``: (N_src, axes), in pixels, row then column; ``graph.dstdata["pos"]`` likewise
        - edge: None
        - output: (N_dst, \*, out_feats)

    Raises:
        ValueError: if an argument is out of range, a shape is wrong, positions are missing or not finite, or ``edge``
            is not None
        TypeError: if x is no floating-point tensor

    Example:
        >>> import torch
        >>> from gnnlib import SplineConv
        >>> import dgl
        >>> g = dgl.graph(([0, 1], [1, 1]))
        >>> g.ndata["pos"] = torch.tensor([[0.0, 0.0], [0.0, 0.5]])
        >>> conv = SplineConv(1, 1, kernel_size=3, reduce="sum")
        >>> conv.basis(g, g.ndata["pos"])[0].tolist()
        [0.0, 0.0, 0.0, 0.5, 0.5, 0.0, 0.0, 0.0, 0.0]
        >>> conv(g, torch.ones(2, 1)).shape
        torch.Size([2, 1])
    """

    two_widths: ClassVar[bool] = True

    def __init__(
        self,
        in_feats: int | tuple[int, int],
        out_feats: int,
        kernel_size: int | Sequence[int],
        *,
        degree: int = 1,
        spacing: float = 1.0,
        reduce: str = "mean",
        root: bool = False,
        bias: bool = True,
    ):
        super().__init__(in_feats, out_feats)
        self.degree = integer(self, "degree", degree)
        self.kernel_size = integers(self, "kernel_size", kernel_size, minimum=self.degree)
        self.spacing = positive(self, "spacing", spacing)
        self.reduce = one_of(self, "reduce", reduce, ("sum", "mean"))
        src_feats, dst_feats = width_pair(self.in_feats)
        self.weight = empty(prod(self.kernel_size), src_feats, self.out_feats)
        self.root = empty(dst_feats, self.out_feats) if root else None
        self.bias = empty(self.out_feats) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw uniform weights within 1 / sqrt(fan_in), and W_root as Glorot and Bengio (2010) do; c is 0."""
        if self.root is not None:
            nn.init.xavier_uniform_(self.root)
        if self.bias is not None:
            nn.init.zeros_(self.bias)
        bound = self.weight[:, :, 0].numel() ** -0.5
        nn.init.uniform_(self.weight, -bound, bound)

    @takes_graph()
    def basis(self, graph: GraphLike, like: Tensor) -> Tensor:
        """B_k of every edge: (E, K)."""
        dtype = torch.promote_types(like.dtype, torch.float32)  # float16 has no odd pixels past 2048, bfloat16 past 256
        p_src, p_dst = (pos.to(like.device, dtype) for pos in self.positions(graph, len(self.kernel_size)))
        offset = (gather_src(graph, p_src) - gather_dst(graph, p_dst)) / self.spacing
        basis = offset.new_ones(len(offset), 1)
        for axis, num in enumerate(self.kernel_size):
            factor = spline_basis(offset[:, axis] + (num - self.degree) / 2, num, self.degree)
            basis = (basis.unsqueeze(-1) * factor.unsqueeze(1)).flatten(1)
        return basis

    def forward(self, graph: GraphLike, x: Features, edge: Tensor | None = None) -> Tensor:
        """Apply the layer.

        Args:
            graph: a graph, a block or a bipartite graph
            x: node features
            edge: must be None

        Shapes:
            as of the class

        Returns:
            the features of the destinations
        """
        x_src, x_dst = self.src_features(graph, x) if self.root is None else self.src_dst_features(graph, x)
        self.check_edge(graph, edge)
        y = convolve(graph, x_src, self.basis(graph, x_src), self.weight)
        if self.reduce == "mean":
            y = mean_from_sum(graph, y)
        if self.root is not None and x_dst is not None:
            y = add_reusing_memory(y, x_dst @ self.root)
        return add_bias(y, self.bias)
