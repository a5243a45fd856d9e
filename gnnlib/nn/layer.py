"""A layer of a network: a convolution with dropout, normalisation, skip and activation."""

from collections.abc import Callable
from functools import lru_cache, wraps
from typing import Any, ClassVar, TypeVar, cast

from torch import Tensor, nn

from gnnlib._utils.calls import call_with_edge, is_of, names_checked, positional_arguments
from gnnlib.graph import GraphLike, as_dgl
from gnnlib.nn._arguments import Arguments, reset_parameters
from gnnlib.nn._factories import as_drop_edge, as_dropout
from gnnlib.nn.conv.base import Conv

__all__ = ["GNNLayer", "apply_conv", "as_blocks", "check_callables", "concat_heads", "graph_for", "mean_heads"]

Function = TypeVar("Function", bound=Callable[..., Any])

EXAMPLES = {
    "conv": "GCNConv(8, 16)",
    "norm": "BatchNorm(16)",
    "skip": "Residual(8, 16)",
    "activation": "torch.nn.ReLU()",
    "feed_forward": "FeedForward(16)",
    "encoder": "torch.nn.Linear(8, 16)",
    "jump": "JumpingKnowledge.cat(16, num_layers)",
    "readout": "MeanReadout(16)",
    "head": "torch.nn.Linear(16, 2)",
}


@names_checked()
def concat_heads(y: Tensor) -> Tensor:
    """Concatenate the heads of an attention layer.

    Args:
        y: features of H heads

    Shapes:
        - y: (N, \\*, H, F)
        - output: (N, \\*, H F)

    Returns:
        The concatenated heads.
    """
    return y.flatten(-2)


@names_checked()
def mean_heads(y: Tensor) -> Tensor:
    """Average the heads of an attention layer.

    Args:
        y: features of H heads

    Shapes:
        - y: (N, \\*, H, F)
        - output: (N, \\*, F)

    Returns:
        The mean over the heads.
    """
    return y.mean(-2)


def check_callables(owner: object, **values: Any) -> None:
    """Modules or functions, or None: a class is what `Stack.build` takes."""
    for name, value in values.items():
        if value is not None and (isinstance(value, type) or not callable(value)):
            got = f"the class {value.__name__}" if isinstance(value, type) else repr(value)
            write = f"; write {name}={EXAMPLES[name]}" if name in EXAMPLES else ""
            raise TypeError(f"{type(owner).__name__}: expected {name} to be a module, got {got}{write}")
        if is_of(value, "torch_geometric."):
            raise TypeError(
                f"{type(owner).__name__}: expected {name} to be called with a DGL graph, such as a layer of gnnlib or "
                f"dgl.nn, got {type(value).__name__} of PyTorch Geometric"
            )


class GNNLayer(Arguments, nn.Module):
    """A convolution with dropout of edges and features, normalisation, skip and activation, in this order.

    ``norm_after_skip=True`` changes the order of the last three to skip, normalisation, activation. A feed-forward
    block comes after them.

    Args:
        conv: any layer of the library, of ``dgl.nn``, or a module called as ``conv(graph, x)``
        norm: called as ``norm(graph, y)``, or ``norm(y)`` where its forward takes one argument
        skip: called as ``skip(y, x, x0)``
        activation: called on features
        dropout: called on features; a number is the probability of `Dropout`
        drop_edge: called as ``drop_edge(graph, edge)``; a number is the probability of `DropEdge`
        merge: called on the output of an attention layer, (N, \\*, H, F)
        norm_after_skip: whether the norm comes after the skip, as in Luo et al. 2024 (arXiv 2406.08993), and not before
            it, as in ResNet (He et al. 2016, arXiv 1512.03385)
        feed_forward: a `FeedForward`, or another module called as ``norm`` is

    Shapes:
        - x: as ``conv`` takes it
        - edge: as ``conv`` takes it, which raises its own error for anything else. A layer of another library receives
          it under the name that its forward has for it, such as ``edge_weight``
        - output: as ``conv`` gives it, heads merged

    Raises:
        TypeError: if an argument is no module or function, or edge values are given to a layer that takes none

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from gnnlib import BatchNorm, GATConv, GNNLayer, Residual
        >>> import dgl
        >>> g = dgl.graph(([0, 1], [1, 0]))
        >>> layer = GNNLayer(GATConv(8, 4, num_heads=2), norm=BatchNorm(8), skip=Residual(8, 8), activation=nn.ELU())
        >>> layer(g, torch.ones(2, 8)).shape
        torch.Size([2, 8])
    """

    renamed: ClassVar = {"act": "activation", "batch_norm": "norm", "residual": "skip=Residual(in_feats, out_feats)"}

    def __init__(
        self,
        conv: nn.Module,
        *,
        norm: nn.Module | None = None,
        skip: nn.Module | None = None,
        activation: nn.Module | None = None,
        dropout: float | nn.Module | None = None,
        drop_edge: float | nn.Module | None = None,
        merge: Callable[[Tensor], Tensor] = concat_heads,
        norm_after_skip: bool = False,
        feed_forward: nn.Module | None = None,
    ):
        super().__init__()
        check_callables(self, conv=conv, norm=norm, skip=skip, activation=activation, merge=merge)
        check_callables(self, feed_forward=feed_forward)
        if conv is None or _takes_one(conv):
            got = "None" if conv is None else f"{type(conv).__name__}, which is called as conv(x)"
            raise TypeError(
                f"GNNLayer: expected a layer that is called as conv(graph, x), such as GCNConv(8, 16), got {got}"
            )
        self.conv, self.norm, self.skip, self.activation = conv, norm, skip, activation
        self.dropout, self.drop_edge = as_dropout("GNNLayer", dropout), as_drop_edge("GNNLayer", drop_edge)
        self.merge, self.norm_after_skip, self.feed_forward = merge, norm_after_skip, feed_forward

    def reset_parameters(self) -> None:
        """Draw all parameters anew."""
        reset_parameters(*self.children())

    def forward(self, graph: GraphLike, x: Tensor, edge: Tensor | None = None, x0: Tensor | None = None) -> Tensor:
        """Apply the layer.

        Args:
            graph: a graph, a batch, or a message-flow graph
            x: node features
            edge: edge weights or edge features
            x0: first hidden features, for a skip such as `InitialResidual`

        Returns:
            Features of the destination nodes, (N_dst, \\*, out_feats).
        """
        if self.drop_edge is not None:
            graph, edge = self.drop_edge(graph, edge)
        h = x if self.dropout is None else self.dropout(x)
        y = apply_conv("GNNLayer", self.conv, graph, h, edge)
        if y.dim() > h.dim():
            y = self.merge(y)
        if self.norm_after_skip:
            y = _call(self.norm, graph, self._add(y, x, x0))
        else:
            y = self._add(_call(self.norm, graph, y), x, x0)
        return _call(self.feed_forward, graph, y if self.activation is None else self.activation(y))

    def _add(self, y: Tensor, x: Tensor, x0: Tensor | None) -> Tensor:
        return y if self.skip is None else self.skip(y, x, x0)


def apply_conv(owner: str, conv: nn.Module, graph: GraphLike, x: Tensor, edge: Tensor | None) -> Tensor:
    """The output of a layer of any library; ``edge`` goes to the argument that its forward has for edge values."""
    graph = graph_for(conv, graph)
    if edge is None:
        return conv(graph, x)
    if hasattr(conv, "takes_edge"):
        return conv(graph, x, edge)
    return call_with_edge(owner, conv, graph, x, edge)


def _call(module: nn.Module | None, graph: GraphLike, y: Tensor) -> Tensor:
    """A module called as ``module(graph, y)``, or as ``module(y)`` where its forward takes one argument."""
    if module is None:
        return y
    return module(y) if _takes_one(module) else module(graph_for(module, graph), y)


def graph_for(module: Any, graph: GraphLike) -> GraphLike:
    """The graph that a module takes: a DGLGraph for those of ``dgl.nn`` and for classes derived from them."""
    return as_dgl(graph) if _any_of_dgl(type(module).__mro__) else graph


def _traced_as_constant(function: Function) -> Function:
    """A cached function of classes, whose result ``torch.compile`` takes as a constant and does not trace."""
    cached = lru_cache(maxsize=512)(function)

    @wraps(function)
    def call(*args: Any) -> Any:
        return cached(*args)

    vars(call)["_dynamo_marked_constant"] = True  # as torch._dynamo.assume_constant_result, which is slow to import
    return cast(Function, call)


@_traced_as_constant
def _any_of_dgl(classes: tuple[type, ...]) -> bool:
    return any(base.__module__.startswith("dgl.") for base in classes)


def _takes_one(module: Any) -> bool:
    """Whether a module is called as ``module(x)``, as those of ``torch.nn`` are."""
    if isinstance(module, nn.Module):
        return _forward_takes_one(type(module).forward)
    arguments = positional_arguments(module)
    return arguments is not None and len(arguments.names) == 1


@_traced_as_constant
def _forward_takes_one(forward: Callable[..., Any]) -> bool:
    """The same of a class's method; cached, as each step of each layer asks for its norm."""
    arguments = positional_arguments(forward)
    return arguments is not None and len(arguments.names) == 2


def as_blocks(owner: str, blocks: Any) -> list[nn.Module]:
    """The blocks of a stack; layers, which are called as ``conv(graph, x)``, inside of a `GNNLayer`.

    Raises:
        TypeError: if one of them is no block and no layer
    """
    if not hasattr(type(blocks), "__iter__"):
        got = "None" if blocks is None else f"one {type(blocks).__name__}"
        raise TypeError(f"{owner}: expected a list of blocks, {owner}([block]), got {got}")
    return [_as_block(owner, block) for block in blocks]


def _as_block(owner: str, block: Any) -> nn.Module:
    """A block of layers in a row, called as ``block(graph, x, edge, x0)``: a layer alone becomes a `GNNLayer`.

    Raises:
        TypeError: if it is none of these, with what to write
    """
    if not isinstance(block, nn.Module):
        got = f"the class {block.__name__}" if isinstance(block, type) else repr(block)
        raise TypeError(f"{owner}: expected blocks that are modules, such as GNNLayer(GCNConv(3, 4)), got {got}")
    arguments = positional_arguments(block)
    num_arguments = 4 if arguments is None else len(arguments.names)
    if num_arguments < 2:
        kind = type(block).__name__
        raise TypeError(
            f"{owner}: expected blocks that are called with a graph, and GNNLayer(conv, activation=..., norm=..., "
            f"dropout=...) for all others, got {kind}"
        )
    is_layer = isinstance(block, Conv) or is_of(block, "dgl.nn.", "torch_geometric.")
    return GNNLayer(block) if is_layer or num_arguments < 4 else block
