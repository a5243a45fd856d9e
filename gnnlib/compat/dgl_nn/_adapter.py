"""What the layers of this package share: their arguments, both ends of the edges, and reductions of messages."""

from collections.abc import Callable
from functools import wraps
from inspect import signature
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from gnnlib._platform.dgl import check_dgl, dgl
from gnnlib.graph import Adjacency, adjacency
from gnnlib.graph._check import check_dense, check_graph, features_error
from gnnlib.nn._arguments import check_call, integer
from gnnlib.ops import aggregate
from gnnlib.ops.edges_as_nodes import incidence
from gnnlib.ops.linear import Linear

check_dgl("gnnlib.compat.dgl_nn")

Features = Tensor | tuple[Tensor, Tensor]

SIZES = {
    **dict.fromkeys(("in_feats", "out_feats", "num_heads", "dim", "n_kernels", "num_towers", "layer"), 1),
    **dict.fromkeys(("in_feat", "out_feat", "num_rels"), 1),
    **dict.fromkeys(("in_size", "out_size", "input_feats", "edge_feats", "output_feats"), 1),
    **dict.fromkeys(("k", "edge_feat_size"), 0),
}
"""Arguments of constructors that are integers, and the least of each."""


class Adapter:
    """Mixin before a layer of ``dgl.nn``: the constructor and the state are DGL's, ``forward`` is the subclass's.

    Sizes are checked before the constructor runs, and the linear maps that it makes become `gnnlib.Linear`.
    """

    two_widths: ClassVar[bool] = False
    _allow_zero_in_degree: bool

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if any(base.__module__.startswith("dgl.") for base in cls.__bases__):
            cls.__init__ = _checked(cls.__init__)  # type: ignore[method-assign]

    @property
    def _name(self) -> str:
        return type(self).__name__

    def ends(self, graph: dgl.DGLGraph, feat: Features, width: int | None = None) -> tuple[Adjacency, Tensor, Tensor]:
        """The edges, the features of the sources, and those of the destinations, which are not checked.

        Args:
            graph: a graph, a block or a bipartite graph
            feat: features of the nodes, or a pair
            width: of the features of the sources; None: any

        Raises:
            DGLError: if the number of rows is not that of the sources
            TypeError: if the features are no dense floating-point tensor
            ValueError: if they have another width
        """
        check_graph(self._name, graph)
        src, dst = feat if isinstance(feat, tuple) else (feat, feat)
        self._check("features of the sources", src, graph.num_src_nodes(), width)
        if dst is src and graph.is_block:
            dst = src[: graph.num_dst_nodes()]
        return adjacency(graph, src.device), src, dst

    def check_dst(self, adj: Adjacency, dst: Tensor, width: int | None = None) -> None:
        """Check features of the destinations, as `ends` does those of the sources."""
        self._check("features of the destinations", dst, adj.num_dst, width)

    def _check(self, name: str, value: Any, rows: int, width: int | None) -> None:
        error = features_error(self._name, value, name=name)
        if error is not None:
            raise error
        check_dense(f"{self._name}: {name}", value)
        if not value.is_floating_point():
            raise TypeError(f"{self._name}: expected floating-point {name}, got {value.dtype}; convert with .float()")
        if value.dim() < 2 or (width is not None and value.shape[-1] != width):
            last = "F" if width is None else width
            raise ValueError(f"{self._name}: expected {name} of shape ({rows}, ..., {last}), got {tuple(value.shape)}")
        if len(value) != rows:
            raise dgl.DGLError(
                f"{self._name}: expected {rows} rows in the {name}, one for each node, got {len(value)}; a graph of "
                "two node sets takes a pair (feat_src, feat_dst)"
            )

    def check_in_degrees(self, adj: Adjacency) -> None:
        """Check that every destination has an in-edge, unless the layer allows that it has none.

        Raises:
            DGLError: if one has none
        """
        if self._allow_zero_in_degree:
            return
        missing = int(adj.cached("0-in-degree nodes", lambda: (adj.in_degrees == 0).sum()))
        if missing:
            raise dgl.DGLError(
                f"{self._name}: expected in-edges at every node, got {missing} 0-in-degree nodes in the graph; write "
                "g = dgl.add_self_loop(g), or allow_zero_in_degree=True where their output may be invalid"
            )

    def edge_weights(self, adj: Adjacency, edge_weight: Tensor | None) -> Tensor | None:
        """Edge weights with a row for each edge; (E, 1) as (E,).

        Raises:
            TypeError: if they are no floating-point tensor
            ValueError: if the number of rows is not that of the edges
        """
        if edge_weight is None:
            return None
        if not isinstance(edge_weight, Tensor) or not edge_weight.is_floating_point():
            got = edge_weight.dtype if isinstance(edge_weight, Tensor) else type(edge_weight).__name__
            raise TypeError(f"{self._name}: expected edge_weight to be a floating-point tensor, got {got}")
        if edge_weight.dim() == 0 or len(edge_weight) != adj.num_edges:
            raise ValueError(
                f"{self._name}: expected edge_weight of shape ({adj.num_edges},), got {tuple(edge_weight.shape)}"
            )
        return edge_weight.flatten() if edge_weight[:1].numel() == len(edge_weight[:1]) else edge_weight


def _checked(init: Callable[..., None]) -> Callable[..., None]:
    parameters = signature(init)

    @wraps(init)
    def checked(self: Any, *args: Any, **options: Any) -> None:
        name = type(self).__name__
        check_call(name, init, (self, *args), options, {})
        arguments = parameters.bind(self, *args, **options).arguments
        for size, least in SIZES.items():
            if size in arguments:
                value = arguments[size]
                pair = self.two_widths and size == "in_feats" and isinstance(value, tuple) and len(value) == 2
                for number in value if pair else (value,):
                    integer(name, size, number, least)
        init(self, *args, **options)
        for child in self.children():
            if type(child) is nn.Linear and all(child is not value for value in arguments.values()):
                child.__class__ = Linear

    return checked


def reduce_messages(adj: Adjacency, x: Tensor, weight: Tensor | None, reduce: str = "sum") -> Tensor:
    """DGL's ``u_mul_e`` and a reduction: the weights' last axis is aligned with that of the features.

    Args:
        adj: the edges
        x: features of the sources, (N_src, \\*, F)
        weight: (E,), or (E, \\*) with any axes that x times them broadcasts over; None: 1
        reduce: "sum", "mean" or "max"

    Returns:
        The reductions, (N_dst, \\*, F); 0 for a node without in-edges.
    """
    if weight is None:
        return aggregate(adj, x, None, reduce)
    weight = weight.view(len(weight), *[1] * (x.dim() - weight.dim()), *weight.shape[1:])
    if weight.shape[-1] == 1 and weight.dim() == x.dim():
        return aggregate(adj, x, weight.squeeze(-1), reduce)
    return reduce_edges(adj, copy_to_edges(adj, x) * weight, reduce)


def copy_to_edges(adj: Adjacency, x: Tensor) -> Tensor:
    """The features of the sources, a row for each edge."""
    return aggregate(incidence(adj)[0], x)


def reduce_edges(adj: Adjacency, messages: Tensor, reduce: str = "sum") -> Tensor:
    """The reduction of messages (E, \\*, F) over the in-edges of each destination."""
    return aggregate(incidence(adj)[1].reverse(), messages, None, reduce)


def split_heads(x: Tensor, num_heads: int) -> Tensor:
    """(N, \\*, H F) as (N, \\*, H, F)."""
    return x.unflatten(-1, (num_heads, x.shape[-1] // num_heads))


def activated(activation: Callable[[Tensor], Tensor] | None, y: Tensor) -> Tensor:
    """The activation of y; None: y."""
    return y if activation is None else activation(y)


def per_node(value: Tensor, like: Tensor) -> Tensor:
    """Numbers of nodes (N,) as (N, 1, ...), with the axes of features."""
    return value.view(-1, *[1] * (like.dim() - 1))


def is_training_dropout(layer: nn.Dropout) -> bool:
    """Whether a dropout drops something now."""
    return layer.training and layer.p > 0


def ones(adj: Adjacency, like: Tensor, *axes: int) -> Tensor:
    """(E, *axes) ones of the type and device of a tensor."""
    return torch.ones(adj.num_edges, *axes, dtype=like.dtype, device=like.device)
