"""Spline convolution: weights on a regular lattice of knots, read in between by B-splines of the relative position."""

from collections.abc import Sequence
from math import inf, prod

import torch
from torch import Tensor, nn

from gnnlib._platform.dgl import dgl
from gnnlib.nn.conv.base import Conv, Features, add_bias, add_reusing_memory, glorot, zeros
from gnnlib.ops import convolve, gather_dst, gather_src
from gnnlib.ops.degrees import mean_from_sum

__all__ = ["SplineConv", "spline_basis"]


def spline_basis(place: Tensor, num: int, degree: int = 1) -> Tensor:
    r"""The uniform B-splines of one axis (Cox 1972, de Boor 1972), ``num`` of them on the interval 0 to num - degree.

    .. math:: N_i^0(t) = [i \le t + m < i + 1], \qquad
        N_i^d(t) = \frac{s\, N_i^{d-1}(t) + (d + 1 - s)\, N_{i+1}^{d-1}(t)}{d}, \quad s = t + m - i

    with the degree m. All are at least 0 and sum to 1; a place outside of the interval counts as its nearer end.
    Degree 1: a hat on each of the places 0 to num - 1, so whole numbers are one-hot.

    Args:
        place: t, in distances between knots
        num: how many splines
        degree: m, at least 1

    Shapes: place (\*), returns (\*, num).

    >>> spline_basis(torch.tensor([0.0, 2.0, 1.25, 7.0]), 3).tolist()
    [[1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, 0.75, 0.25], [0.0, 0.0, 1.0]]
    """
    s = place.clamp(0, num - degree).unsqueeze(-1) + degree - torch.arange(num + degree, device=place.device)
    basis = ((s >= 0) & (s < 1)).to(place)
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
    the same weights serve superpixels. See `spline_basis` for N.

    Args:
        in_feats: width of x, or (source, destination) widths
        out_feats: width of y
        kernel_size: taps along each axis of the positions, at least ``degree``; an int is square, for two axes
        degree: m of the B-splines, at least 1
        spacing: pixels between taps; offsets of more than spacing (kernel_size - m) / 2 along an axis are cut to that
        reduce: "mean" (the paper's) or "sum" (a convolution's)
        root: whether to add x_v W_root
        bias: whether to add c

    Shapes: x (N, \*, in_feats) or a pair, whose second part is used with ``root`` only; positions
    ``graph.srcdata["pos"]`` (N_src, axes) and ``graph.dstdata["pos"]``, in pixels, row then column; edge must be None;
    returns (N_dst, \*, out_feats). ``weight`` is (K, in_feats, out_feats), K = prod(kernel_size) taps in row-major
    order: ``conv2d.weight.flatten(2).permute(2, 1, 0)``. Memory: (E, K).

    Raises: ValueError or TypeError, naming expected and received, for options out of range, for x of a wrong shape
    or dtype, positions that are missing, of another width, or not finite, or any edge argument.

    Differs from the paper: offsets come from positions, which are not scaled to 0..1 over a data set. PyG's layer
    takes them along edges and has W_root by default. A node without in-edges gets x_v W_root + c.

    >>> g = dgl.graph(([0, 1], [1, 1]))
    >>> g.ndata["pos"] = torch.tensor([[0.0, 0.0], [0.0, 0.5]])
    >>> conv = SplineConv(1, 1, kernel_size=3, reduce="sum")
    >>> conv.basis(g, g.ndata["pos"])[0].tolist()
    [0.0, 0.0, 0.0, 0.5, 0.5, 0.0, 0.0, 0.0, 0.0]
    >>> conv(g, torch.ones(2, 1)).shape
    torch.Size([2, 1])
    """

    def __init__(
        self,
        in_feats: int | tuple[int, int],
        out_feats: int,
        kernel_size: int | Sequence[int],
        degree: int = 1,
        spacing: float = 1.0,
        reduce: str = "mean",
        root: bool = False,
        bias: bool = True,
    ):
        super().__init__(in_feats, out_feats)
        window = tuple(kernel_size) if isinstance(kernel_size, Sequence) else (kernel_size, kernel_size)
        if degree < 1 or not window or min(window) < degree:
            raise ValueError(
                f"SplineConv: expected a degree of at least 1 and a kernel_size of at least that along each axis, "
                f"got {degree} and {window}"
            )
        if not 0 < spacing < inf:
            raise ValueError(f"SplineConv: expected a positive spacing, got {spacing}")
        if reduce not in ("sum", "mean"):
            raise ValueError(f"SplineConv: expected reduce to be 'sum' or 'mean', got {reduce!r}")
        self.kernel_size, self.degree, self.spacing, self.reduce = window, degree, spacing, reduce
        src_feats, dst_feats = in_feats if isinstance(in_feats, tuple) else (in_feats, in_feats)
        num_taps = prod(window)
        self.weight = nn.Parameter(torch.empty(num_taps, src_feats, out_feats))
        self.root = glorot(dst_feats, out_feats) if root else None
        self.bias = zeros(out_feats) if bias else None
        bound = (num_taps * src_feats) ** -0.5
        nn.init.uniform_(self.weight, -bound, bound)

    def basis(self, graph: dgl.DGLGraph, like: Tensor) -> Tensor:
        """B_k of every edge: (E, K)."""
        dtype = torch.promote_types(like.dtype, torch.float32)  # halves know no pixel past 256
        p_src, p_dst = (pos.to(like.device, dtype) for pos in self.positions(graph, len(self.kernel_size)))
        offset = (gather_src(graph, p_src) - gather_dst(graph, p_dst)) / self.spacing
        basis = offset.new_ones(len(offset), 1)
        for axis, num in enumerate(self.kernel_size):
            along = spline_basis(offset[:, axis] + (num - self.degree) / 2, num, self.degree)
            basis = (basis.unsqueeze(-1) * along.unsqueeze(1)).flatten(1)
        return basis

    def forward(self, graph: dgl.DGLGraph, x: Features, edge: Tensor | None = None) -> Tensor:
        x_src, x_dst = self.ends(graph, x) if self.root is None else self.both_ends(graph, x)
        self.check_edge(graph, edge)
        y = convolve(graph, x_src, self.basis(graph, x_src), self.weight)
        if self.reduce == "mean":
            y = mean_from_sum(graph, y)
        if self.root is not None and x_dst is not None:
            y = add_reusing_memory(y, x_dst @ self.root)
        return add_bias(y, self.bias)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, kernel_size={self.kernel_size}, degree={self.degree}, spacing={self.spacing}"
