"""Pooling over windows of a grid, as a reduction over in-neighbours."""

from torch import Tensor, nn

from gnnlib.graph import GraphLike
from gnnlib.graph._check import check_dense
from gnnlib.grid.dense import has_pool, on_images, pool, whole
from gnnlib.nn._arguments import Arguments, one_of
from gnnlib.ops import aggregate

__all__ = ["GridPool"]


class GridPool(Arguments, nn.Module):
    r"""Pooling (LeCun et al. 1998, "Gradient-Based Learning Applied to Document Recognition", for the mean; Ranzato
    et al. 2007 for the maximum) of each cell's in-neighbours:

    .. math:: y_v = \max_{u \to v} x_u, \qquad y_v = \frac{1}{a_v} \sum_{u \to v} x_u

    The windows belong to the graph: :func:`gnnlib.grid.lattice`, :func:`gnnlib.grid.adaptive_lattice`, or any other.
    On a whole lattice PyTorch's own pooling runs, if it has this window.

    Among equals the first is the maximum, and NaN is larger than any number, as in PyTorch. A node without in-edges
    gets 0; PyTorch gives -inf where the window of a maximum is empty.

    Args:
        reduce: "max" or "mean"
        count_include_pad: the mean is over the window inside the padded input, ``dstdata["area"]``; otherwise, and on
            a graph without areas, over the in-edges
        dense: False: always pass messages

    Shapes:
        - x: (N, \*, F)
        - output: (N_out, \*, F)

    Raises:
        ValueError: if ``reduce`` is unknown, or x lacks a row for each source

    Example:
        >>> import torch
        >>> from gnnlib.grid import GridPool, lattice
        >>> GridPool("max")(lattice(4, 2, stride=2), torch.tensor([[1.0], [5.0], [3.0], [2.0]])).tolist()
        [[5.0], [3.0]]
    """

    def __init__(self, reduce: str = "max", *, count_include_pad: bool = True, dense: bool = True):
        super().__init__()
        self.reduce = one_of(self, "reduce", reduce, ("max", "mean"))
        self.count_include_pad, self.dense = count_include_pad, dense

    def forward(self, graph: GraphLike, x: Tensor) -> Tensor:
        """Apply the layer.

        Args:
            graph: a graph whose in-edges are the windows
            x: node features

        Shapes:
            as of the class

        Returns:
            the features of the output cells
        """
        check_dense("GridPool: x", x)
        if x.dim() < 2 or len(x) != graph.num_src_nodes():
            raise ValueError(f"GridPool: expected x of shape ({graph.num_src_nodes()}, ..., F), got {tuple(x.shape)}")
        area = graph.dstdata.get("area") if self.reduce == "mean" and self.count_include_pad else None
        lattice = whole(graph) if self.dense else None
        if lattice is not None and not lattice.transposed and has_pool(lattice.window, self.reduce):
            return on_images(lattice, x, lambda images: pool(lattice.window, images, self.reduce, area is not None))
        if area is None:
            return aggregate(graph, x, reduce=self.reduce)
        return aggregate(graph, x) / area.to(x).view(-1, *[1] * (x.dim() - 1))
