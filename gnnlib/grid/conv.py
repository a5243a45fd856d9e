"""Convolution as message passing along edges that carry the tap of a window."""

from collections.abc import Sequence
from typing import ClassVar

from torch import Tensor, nn

from gnnlib._utils.calls import names_checked
from gnnlib.graph import GraphLike, takes_graph
from gnnlib.grid._lattice import taps
from gnnlib.grid.dense import convolve, convolve_transposed, on_images, whole
from gnnlib.nn._arguments import integer, integers
from gnnlib.nn.conv.base import Conv, Features, add_bias, empty
from gnnlib.ops import message_passing as ops

__all__ = ["GridConv", "GridConvTranspose", "grid_conv"]


@names_checked()
@takes_graph()
def grid_conv(
    graph: GraphLike,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    groups: int = 1,
    transposed: bool = False,
    dense: bool = True,
) -> Tensor:
    r"""Convolution on a graph whose edges carry a tap: the function of `GridConv` and `GridConvTranspose`.

    Args:
        graph: a graph with taps
        x: node features
        weight: in the order of ``torch.nn.Conv2d``, or transposed of ``torch.nn.ConvTranspose2d``
        bias: added to the output
        groups: number of groups of features
        transposed: whether to apply the transposed convolution
        dense: whether PyTorch's convolution may run on whole lattices

    Shapes:
        - x: (N, \*, in_feats)
        - weight: (out_feats, in_feats / groups, \*kernel_size), or (in_feats, out_feats / groups, \*kernel_size)
        - bias: (out_feats,)
        - output: (N_out, \*, out_feats)

    Returns:
        the features of the output cells

    Example:
        >>> import torch
        >>> from gnnlib.grid import grid_conv, lattice
        >>> grid_conv(lattice(5, 3), torch.arange(5.0).view(5, 1), torch.ones(1, 1, 3)).flatten().tolist()
        [3.0, 6.0, 9.0]
    """
    lattice = whole(graph, tuple(weight.shape[2:])) if dense and weight.dim() <= 5 else None
    if lattice is not None and lattice.transposed == transposed:
        run = convolve_transposed if transposed else convolve
        return on_images(lattice, x, lambda images: run(lattice.window, images, weight, bias, groups))
    matrices = weight.unflatten(0, (groups, -1)).flatten(3)  # (groups, out, in, K); transposed, (groups, in, out, K)
    matrices = matrices.permute(0, 3, 1, 2) if transposed else matrices.permute(0, 3, 2, 1)
    y = ops.convolve(graph, x.unflatten(-1, (groups, matrices.shape[2])), taps(graph), matrices)
    return add_bias(y.flatten(-2), bias)


def divisor_of_widths(conv: Conv, groups: int) -> int:
    """A number of groups that divides both widths of a layer."""
    groups = integer(conv, "groups", groups)
    if conv.in_feats % groups or conv.out_feats % groups:
        raise ValueError(
            f"{type(conv).__name__}: expected widths divisible by groups, "
            f"got {conv.in_feats} -> {conv.out_feats}, {groups}"
        )
    return groups


class GridConv(Conv):
    r"""Convolution (LeCun et al. 1989, "Backpropagation Applied to Handwritten Zip Code Recognition") on any graph
    whose edges carry a tap:

    .. math:: y_v = \sum_{u \to v} x_u W_{\mathrm{tap}(u \to v)} + c

    Stride, padding and dilation belong to the graph, see :func:`gnnlib.grid.lattice`. Where that is a whole lattice,
    or a batch of one, PyTorch's own convolution runs on a view of x; elsewhere, as on a pixel graph with pixels
    cut out, messages are passed. Images (B, C, \*size) become node features by :func:`gnnlib.grid.to_nodes`, without a
    copy.

    Differs from the paper: nothing. A node without in-edges gets c. Weights are initialised as, and state dicts load
    from, ``torch.nn.Conv1d``, ``Conv2d`` and ``Conv3d``.

    Args:
        in_feats: width of the node features
        out_feats: width of the output
        kernel_size: of the window; an int is square, for grids with two axes
        groups: number of groups; each group of outputs depends on its own group of inputs only
        bias: whether to add c
        dense: False: always pass messages

    Shapes:
        - x: (N, \*, in_feats)
        - edge: None
        - weight: (out_feats, in_feats / groups, \*kernel_size)
        - bias: (out_feats,)
        - output: (N_out, \*, out_feats)

    Raises:
        ValueError: if an argument is out of range, widths are not divisible by groups, a shape is wrong, or the graph
            has taps that the window lacks
        KeyError: if the graph has no taps
        TypeError: if x is no floating-point tensor

    Example:
        >>> import torch
        >>> from gnnlib.grid import GridConv, lattice
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
        *,
        groups: int = 1,
        bias: bool = True,
        dense: bool = True,
    ):
        super().__init__(in_feats, out_feats)
        self.kernel_size = integers(self, "kernel_size", kernel_size)
        self.groups, self.dense = divisor_of_widths(self, groups), dense
        rows, columns = (self.in_feats, self.out_feats) if self.transposed else (self.out_feats, self.in_feats)
        self.weight = empty(rows, columns // self.groups, *self.kernel_size)
        self.bias = empty(self.out_feats) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw weights and bias uniformly within 1 / sqrt(fan_in), as PyTorch does."""
        nn.init.kaiming_uniform_(self.weight, a=5**0.5)
        if self.bias is not None:
            bound = self.weight[0].numel() ** -0.5
            nn.init.uniform_(self.bias, -bound, bound)

    def forward(self, graph: GraphLike, x: Features, edge: Tensor | None = None) -> Tensor:
        """Apply the layer.

        Args:
            graph: a graph with taps
            x: node features
            edge: must be None

        Shapes:
            as of the class

        Returns:
            the features of the output cells
        """
        x, _ = self.src_features(graph, x)
        self.check_edge(graph, edge)
        return grid_conv(graph, x, self.weight, self.bias, self.groups, self.transposed, self.dense)


class GridConvTranspose(GridConv):
    r"""Transposed convolution (Dumoulin and Visin 2016, arXiv 1603.07285, section 4; the fractionally strided one): the
    gradient of a convolution for its input, and the same equation as :class:`GridConv` on the reversed lattice,
    :func:`gnnlib.grid.transposed_lattice`. The layer and the convolution that it transposes share a weight.

    State dicts of ``torch.nn.ConvTranspose1d``, ``ConvTranspose2d`` and ``ConvTranspose3d`` load. A node without
    in-edges gets c.

    Args:
        in_feats: width of the node features
        out_feats: width of the output
        kernel_size: of the window; an int is square, for grids with two axes
        groups: number of groups; each group of outputs depends on its own group of inputs only
        bias: whether to add c
        dense: False: always pass messages

    Shapes:
        - x: (N, \*, in_feats)
        - edge: None
        - weight: (in_feats, out_feats / groups, \*kernel_size), PyTorch's order
        - bias: (out_feats,)
        - output: (N_fine, \*, out_feats)

    Raises:
        ValueError: as :class:`GridConv`
        KeyError: if the graph has no taps
        TypeError: if x is no floating-point tensor

    Example:
        >>> import torch
        >>> from gnnlib.grid import GridConvTranspose, transposed_lattice
        >>> GridConvTranspose(8, 3, kernel_size=2)(transposed_lattice((14, 14), 2, stride=2), torch.ones(196, 8)).shape
        torch.Size([784, 3])
    """

    transposed: ClassVar[bool] = True
