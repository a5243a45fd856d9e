"""Base class of the message-passing layers: arguments, features of sources and destinations, edge values."""

from collections.abc import Collection
from inspect import signature
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from gnnlib.graph import NID, GraphLike
from gnnlib.graph._adjacency import is_traced
from gnnlib.graph._check import check_dense, features_error
from gnnlib.nn._arguments import Arguments, integer, reset_parameters
from gnnlib.nn._foreign import constructor_answers
from gnnlib.ops.linear import Linear

Features = Tensor | tuple[Tensor, Tensor | None]


class Conv(Arguments, nn.Module):
    """Base class of a message-passing layer: ``forward(graph, x, edge=None) -> y``.

    A subclass stores each argument of its constructor as the attribute of the same name, and calls `src_features` or
    `src_dst_features` and `check_edge` first in its ``forward``: they raise before any kernel runs. Names of arguments
    that DGL and PyTorch Geometric have are refused with what to write in their place.

    Attributes:
        takes_edge: what ``edge`` is to this layer: "weight" (a number per edge), "feature" (a vector per edge) or None
        two_widths: whether in_feats may be a pair, the widths of the sources and of the destinations

    Args:
        in_feats: width of the node features, or a pair where ``two_widths``
        out_feats: width of the output

    Raises:
        ValueError: if a width is not a positive integer

    Example:
        >>> import torch
        >>> import gnnlib
        >>> import dgl
        >>> from gnnlib.nn.conv import Conv
        >>> class MeanConv(Conv):
        ...     def __init__(self, in_feats, out_feats, *, bias: bool = True):
        ...         super().__init__(in_feats, out_feats)
        ...         self.linear = gnnlib.Linear(in_feats, out_feats, bias=bias)
        ...
        ...     def forward(self, graph, x, edge=None):
        ...         x, _ = self.src_features(graph, x)
        ...         self.check_edge(graph, edge)
        ...         return self.linear(gnnlib.aggregate(graph, x, reduce="mean"))
        >>> MeanConv(3, 2)(dgl.graph(([0, 1], [1, 0])), torch.ones(2, 3)).shape
        torch.Size([2, 2])
    """

    takes_edge: ClassVar[str | None] = None
    two_widths: ClassVar[bool] = False
    shown_by_position: ClassVar[Collection[str] | None] = ("in_feats", "out_feats")

    def __init__(self, in_feats: int | tuple[int, int], out_feats: int):
        super().__init__()
        self.in_feats: Any = in_feats
        if self.two_widths and isinstance(in_feats, tuple) and len(in_feats) == 2:
            self.in_feats = tuple(integer(self, "in_feats", width) for width in in_feats)
        else:
            self.in_feats = integer(self, "in_feats", in_feats)
        self.out_feats = integer(self, "out_feats", out_feats)

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        cls.renamed = constructor_answers(cls.__name__, signature(cls.__init__).parameters)

    def reset_parameters(self) -> None:
        """Draw all parameters anew, those of modules inside the layer too."""
        reset_parameters(*self.children())

    @property
    def _name(self) -> str:
        return type(self).__name__

    def src_features(self, graph: GraphLike, x: Features) -> tuple[Tensor, Tensor | None]:
        """Features of the sources and of the destinations.

        Args:
            graph: a graph, a block or a bipartite graph
            x: features of the nodes, or a pair (x_src, x_dst)

        Returns:
            (x_src, x_dst); x_dst is None where neither ``x`` nor the graph has it, and is not checked

        Raises:
            TypeError: if the features of the sources are no dense floating-point tensor
            ValueError: if their shape is wrong
        """
        x_dst: Tensor | None
        if isinstance(x, tuple):
            x_src, x_dst = x
        elif graph.is_block:
            sampled = NID in graph.srcdata and NID in graph.dstdata
            x_src, x_dst = x, x[: graph.num_dst_nodes()] if sampled else None
        else:
            x_src, x_dst = x, x if graph.is_homogeneous else None
        width = width_pair(self.in_feats)[0]
        self._check("x" if x_dst is x_src else "x of the sources", x_src, graph.num_src_nodes(), width, graph)
        return x_src, x_dst

    def src_dst_features(self, graph: GraphLike, x: Features) -> tuple[Tensor, Tensor]:
        """`src_features` for a layer that needs the features of the destinations.

        Raises:
            TypeError: if the features of the destinations are no dense floating-point tensor
            ValueError: if their shape is wrong, or the graph has two node sets and ``x`` is one tensor
        """
        x_src, x_dst = self.src_features(graph, x)
        if x_dst is None:
            raise ValueError(
                f"{self._name} uses the destinations' own features and this graph has two node sets: "
                f"expected a pair (x_src, x_dst), got one tensor of shape {tuple(x_src.shape)}"
            )
        src_feats, dst_feats = width_pair(self.in_feats)
        if x_dst is not x_src or dst_feats != src_feats:
            self._check("x of the destinations", x_dst, graph.num_dst_nodes(), dst_feats, graph)
        return x_src, x_dst

    def _check(self, what: str, x: Tensor, rows: int, width: int, graph: GraphLike) -> None:
        check_dense(f"{self._name}: {what}", x)
        wrong = None if isinstance(x, Tensor) else features_error(self._name, x, name=what)
        if wrong is not None:
            raise wrong
        if not x.is_floating_point():
            raise TypeError(f"{self._name}: expected floating-point {what}, got {x.dtype}; convert with .float()")
        if x.dim() < 2 or len(x) != rows or x.shape[-1] != width:
            raise ValueError(
                f"{self._name}: expected {what} of shape ({rows}, ..., {width}), got {tuple(x.shape)}"
                f"{_advice(x, rows, width, graph)}"
            )

    def check_edge(self, graph: GraphLike, edge: Tensor | None, width: int | None = None) -> Any:
        """Check edge values.

        Args:
            graph: the graph of the edges
            edge: weights (E,) or (E, 1), or features (E, width) where a width is given
            width: of the edge features

        Returns:
            the features, the weights as (E,), or None

        Raises:
            TypeError: if ``edge`` is no dense floating-point tensor
            ValueError: if its shape is wrong, it is missing, or the layer takes none
        """
        if edge is None:
            if width is not None:
                raise ValueError(
                    f"{self._name}: expected edge features of shape ({graph.num_edges()}, {width}), got none"
                )
            return None
        if self.takes_edge is None:
            raise ValueError(f"{self._name}: expected neither edge weights nor edge features, got {_shape(edge)}")
        check_dense(f"{self._name}: edge", edge)
        expected = (graph.num_edges(),) if width is None else (graph.num_edges(), width)
        if not isinstance(edge, Tensor) or not edge.is_floating_point():
            got = edge.dtype if isinstance(edge, Tensor) else type(edge).__name__
            value: Any = edge
            column = f", graph.edata[{value!r}]" if isinstance(value, str) else ""
            raise TypeError(
                f"{self._name}: expected a floating-point tensor of edge {self.takes_edge}s{column}, got {got}"
            )
        if width is None and edge.shape == (*expected, 1):
            return edge.squeeze(1)
        if tuple(edge.shape) != expected:
            raise ValueError(
                f"{self._name}: expected edge {self.takes_edge}s of shape {expected}, got {_shape(edge)}"
                f"{_edge_advice(edge, width)}"
            )
        return edge

    def positions(self, graph: GraphLike, axes: int) -> list[Tensor]:
        """``pos`` of the sources and of the destinations, each (N, axes) and finite."""
        positions = []
        for data in (graph.srcdata, graph.dstdata):
            if "pos" not in data:
                raise ValueError(
                    f"{self._name}: expected positions in graph.ndata['pos'], found {sorted(map(str, data))}"
                )
            pos = data["pos"]
            if pos.dim() != 2 or pos.shape[1] != axes:
                raise ValueError(f"{self._name}: expected positions of shape (N, {axes}), got {tuple(pos.shape)}")
            bad = 0 if is_traced() else int((~torch.isfinite(pos)).sum())
            if bad:
                raise ValueError(f"{self._name}: expected finite positions, got {bad} NaN or inf")
            positions.append(pos)
        return positions


def _advice(x: Tensor, rows: int, width: int, graph: GraphLike) -> str:
    """What to write in place of features of a wrong shape, where that is known."""
    if x.dim() > 2 and x.shape[-1] * x.shape[-2] == width:
        return "; join the heads with x.flatten(-2)"
    other = {graph.num_src_nodes(), graph.num_dst_nodes()} - {rows}
    if x.dim() > 1 and len(x) in other:
        return "; the rows are those of the other node set: pass the pair (x_src, x_dst)"
    return ""


def _edge_advice(edge: Tensor, width: int | None) -> str:
    if width is None and edge.dim() == 2:
        return "; edge features are no weights: use GINEConv or ECConv"
    if width is not None and edge.dim() == 1:
        add = "add an axis with edge.unsqueeze(-1)" if width == 1 else "use GCNConv or GATConv"
        return f"; edge weights are no features: {add}"
    return ""


def _shape(value: object) -> str:
    return f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__


def width_pair(in_feats: int | tuple[int, int]) -> tuple[int, int]:
    """The widths of the sources and of the destinations."""
    return in_feats if isinstance(in_feats, tuple) else (in_feats, in_feats)


def add_bias(y: Tensor, bias: Tensor | None) -> Tensor:
    """y + bias in the type of y, as of linear layers under autocast, or y where there is none."""
    return y if bias is None else y + bias.to(y.dtype)


def add_reusing_memory(y: Tensor, more: Tensor) -> Tensor:
    """y + more in the type and the memory of y: for a y that the layer has just made and that no derivative needs."""
    more = more.to(y.dtype)  # PyTorch would add two types in a float32 copy of y
    return y + more if is_traced() or y._base is not None else y.add_(more)


def empty(*shape: int) -> nn.Parameter:
    """A parameter that `reset_parameters` is to draw."""
    return nn.Parameter(torch.empty(*shape))


def empty_linear(in_feats: int, out_feats: int, *, bias: bool = True) -> Linear:
    """A linear map that `reset_parameters` is to draw."""
    device = torch.empty(0).device
    return nn.utils.skip_init(Linear, in_feats, out_feats, bias=bias, device=device)


def zeros(*shape: int) -> nn.Parameter:
    return nn.Parameter(torch.zeros(*shape))
