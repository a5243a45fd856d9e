"""Convolution as message passing along edges that carry the tap of a window."""

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from gnnlib._platform.dgl import dgl
from gnnlib.grid._lattice import taps
from gnnlib.grid.dense import convolve, convolve_transposed, on_images, whole
from gnnlib.grid.window import positive
from gnnlib.nn.conv.base import Conv, Features, add_bias
from gnnlib.ops import message_passing as ops

__all__ = ["GridConv", "GridConvTranspose", "grid_conv"]


def grid_conv(
    graph: dgl.DGLGraph,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    groups: int = 1,
    transposed: bool = False,
    dense: bool = True,
) -> Tensor:
    """The function of `GridConv` and `GridConvTranspose`, as ``torch.nn.functional.conv2d`` is that of ``Conv2d``.

    Shapes: as there; the window is that of the weight, ``weight.shape[2:]``.

    >>> from gnnlib.grid import lattice
    >>> grid_conv(lattice(5, 3), torch.arange(5.0).view(5, 1), torch.ones(1, 1, 3)).flatten().tolist()
    [3.0, 6.0, 9.0]
    """
    found = whole(graph, tuple(weight.shape[2:])) if dense and weight.dim() <= 5 else None
    if found is not None and found.transposed == transposed:
        run = convolve_transposed if transposed else convolve
        return on_images(found, x, lambda images: run(found.window, images, weight, bias, groups))
    each = weight.unflatten(0, (groups, -1)).flatten(3)  # (groups, out, in, K); transposed, (groups, in, out, K)
    each = each.permute(0, 3, 1, 2) if transposed else each.permute(0, 3, 2, 1)
    y = ops.convolve(graph, x.unflatten(-1, (groups, each.shape[2])), taps(graph), each)
    return add_bias(y.flatten(-2), bias)


class GridConv(Conv):
    r"""Convolution (LeCun et al. 1989, "Backpropagation Applied to Handwritten Zip Code Recognition") on any graph
    whose edges carry a tap:

    .. math:: y_v = \sum_{u \to v} x_u W_{\mathrm{tap}(u \to v)} + c

    Stride, padding and dilation belong to the graph, see :func:`gnnlib.grid._lattice`. Where that is a whole lattice,
    or a batch of one, PyTorch's own convolution runs on a view of x; elsewhere, as on a pixel graph with pixels
    cut out, messages are passed.

    Args:
        in_feats, out_feats: widths
        kernel_size: of the window; an int is square, for grids with two axes
        groups: each of so many parts of the outputs sees its own part of the inputs only
        bias: whether to add c
        dense: False: always pass messages

    Shapes: x (N, \*, in_feats), weight (out_feats, in_feats / groups, \*kernel_size), bias (out_feats,); returns
    (N_out, \*, out_feats). Images (B, C, \*size) are :func:`gnnlib.grid.to_nodes` of them, and keep their memory.

    Raises: ValueError, KeyError or TypeError, naming expected and received, for widths not divisible by groups, x of a
    wrong shape, a graph without taps, or one with taps that the window lacks.

    Differs from the paper: nothing. A node without in-edges gets c. Weights start as, and state dicts load from,
    ``torch.nn.Conv1d``, ``Conv2d`` and ``Conv3d``.

    >>> from gnnlib.grid import lattice
    >>> GridConv(3, 8, kernel_size=3)(lattice((28, 28), 3, stride=2), torch.ones(784, 64, 3)).shape
    torch.Size([169, 64, 8])
    """

    takes_edge: ClassVar[str | None] = None
    transposed: ClassVar[bool] = False

    def __init__(
        self,
        in_feats: int,
        out_feats: int,
        kernel_size: int | Sequence[int],
        groups: int = 1,
        bias: bool = True,
        dense: bool = True,
    ):
        super().__init__(in_feats, out_feats)
        axes = len(kernel_size) if isinstance(kernel_size, Sequence) else 2
        self.kernel_size = positive(f"{self._name}: kernel_size", kernel_size, axes)
        if groups < 1 or in_feats % groups or out_feats % groups:
            raise ValueError(
                f"{self._name}: expected widths divisible by groups, got {in_feats} -> {out_feats}, {groups}"
            )
        self.groups, self.dense = groups, dense
        rows, columns = (in_feats, out_feats) if self.transposed else (out_feats, in_feats)
        self.weight = nn.Parameter(torch.empty(rows, columns // groups, *self.kernel_size))
        self.bias = nn.Parameter(torch.empty(out_feats)) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Uniform within 1 / sqrt(fan_in), weights and bias, as in PyTorch."""
        nn.init.kaiming_uniform_(self.weight, a=5**0.5)
        if self.bias is not None:
            bound = self.weight[0].numel() ** -0.5
            nn.init.uniform_(self.bias, -bound, bound)

    def forward(self, graph: dgl.DGLGraph, x: Features, edge: Tensor | None = None) -> Tensor:
        x, _ = self.ends(graph, x)
        self.check_edge(graph, edge)
        return grid_conv(graph, x, self.weight, self.bias, self.groups, self.transposed, self.dense)

    def extra_repr(self) -> str:
        return f"{self.in_feats}, {self.out_feats}, kernel_size={self.kernel_size}, groups={self.groups}"


class GridConvTranspose(GridConv):
    r"""Transposed convolution (Dumoulin and Visin 2016, arXiv 1603.07285, section 4; the fractionally strided one): the
    gradient of a convolution for its input, and the same equation as :class:`GridConv` on the reversed lattice,
    :func:`gnnlib.grid.transposed_lattice`.

    Args, Raises: as :class:`GridConv`.

    Shapes: x (N, \*, in_feats), weight (in_feats, out_feats / groups, \*kernel_size): PyTorch's order, in which the
    layer and the convolution that it transposes share a weight; returns (N_fine, \*, out_feats). State dicts of
    ``torch.nn.ConvTranspose1d``, ``ConvTranspose2d`` and ``ConvTranspose3d`` load.

    >>> from gnnlib.grid import transposed_lattice
    >>> GridConvTranspose(8, 3, kernel_size=2)(transposed_lattice((14, 14), 2, stride=2), torch.ones(196, 8)).shape
    torch.Size([784, 3])
    """

    transposed: ClassVar[bool] = True
