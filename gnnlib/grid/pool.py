"""Pooling as message passing: the in-edges of a cell are its window."""

from torch import Tensor, nn

from gnnlib._platform.dgl import dgl
from gnnlib.grid.dense import has_pool, on_images, pool, whole
from gnnlib.ops import aggregate

__all__ = ["GridPool"]


class GridPool(nn.Module):
    r"""Pooling (LeCun et al. 1998, "Gradient-Based Learning Applied to Document Recognition", for the mean; Ranzato
    et al. 2007 for the maximum) of each cell's in-neighbours:

    .. math:: y_v = \max_{u \to v} x_u, \qquad y_v = \frac{1}{a_v} \sum_{u \to v} x_u

    The windows belong to the graph: :func:`gnnlib.grid._lattice`, :func:`gnnlib.grid.adaptive_lattice`, or any other.
    On a whole lattice PyTorch's own pooling runs, if it has this window.

    Args:
        reduce: "max" or "mean"
        count_include_pad: the mean is over the window inside the padded input, ``dstdata["area"]``; otherwise, and on
            a graph without areas, over the in-edges
        dense: False: always pass messages

    Shapes: x (N, \*, F) -> (N_out, \*, F).

    Raises: ValueError for an unknown ``reduce``, or x without a row for each source.

    Among equals the first is the maximum, and NaN is larger than any number, as in PyTorch. A node without in-edges
    gets 0; PyTorch gives -inf where the window of a maximum sees nothing.

    >>> import torch
    >>> from gnnlib.grid import lattice
    >>> GridPool("max")(lattice(4, 2, stride=2), torch.tensor([[1.0], [5.0], [3.0], [2.0]])).tolist()
    [[5.0], [3.0]]
    """

    def __init__(self, reduce: str = "max", count_include_pad: bool = True, dense: bool = True):
        super().__init__()
        if reduce not in ("max", "mean"):
            raise ValueError(f"GridPool: expected reduce to be 'max' or 'mean', got {reduce!r}")
        self.reduce, self.count_include_pad, self.dense = reduce, count_include_pad, dense

    def forward(self, graph: dgl.DGLGraph, x: Tensor) -> Tensor:
        if x.dim() < 2 or len(x) != graph.num_src_nodes():
            raise ValueError(f"GridPool: expected x of shape ({graph.num_src_nodes()}, ..., F), got {tuple(x.shape)}")
        area = graph.dstdata.get("area") if self.reduce == "mean" and self.count_include_pad else None
        found = whole(graph) if self.dense else None
        if found is not None and not found.transposed and has_pool(found.window, self.reduce):
            return on_images(found, x, lambda images: pool(found.window, images, self.reduce, area is not None))
        if area is None:
            return aggregate(graph, x, reduce=self.reduce)
        return aggregate(graph, x) / area.to(x).view(-1, *[1] * (x.dim() - 1))

    def extra_repr(self) -> str:
        return f"{self.reduce!r}, count_include_pad={self.count_include_pad}"
