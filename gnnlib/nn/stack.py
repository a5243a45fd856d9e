"""Networks of any layer at any depth."""

from collections.abc import Callable, Sequence
from functools import partial
from math import isqrt
from typing import Any, ClassVar, NamedTuple, cast

from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint as recompute

from gnnlib.graph import GraphLike
from gnnlib.nn._arguments import Arguments, integer, renames, reset_parameters
from gnnlib.nn._factories import (
    ACTIVATIONS,
    FEED_FORWARDS,
    JUMPS,
    NORMS,
    READOUTS,
    SKIPS,
    as_drop_edge,
    as_dropout,
    as_factory,
    as_layer,
)
from gnnlib.nn.drop import Dropout
from gnnlib.nn.layer import GNNLayer, as_blocks, check_callables, graph_for
from gnnlib.nn.readout import readout_flat, readout_mean_max
from gnnlib.nn.reversible import Reversible, ReversibleBlock
from gnnlib.ops.linear import Linear

__all__ = ["Stack"]

Factory = Callable[..., nn.Module]
Readout = Callable[[GraphLike, Tensor], Tensor]
NAMES = {  # of other libraries
    "in_channels": "in_feats",
    "hidden_channels": "hidden_feats",
    "out_channels": "out_feats",
    "hidden_size": "hidden_feats",
    "n_layers": "num_layers",
    "K": "k",
    "act": "activation, a factory such as torch.nn.ReLU",
    "jk": "jump, such as JumpingKnowledge.cat",
    "residual": "skip=Residual",
    "heads": "conv=lambda i, o: GATConv(i, o // heads, heads)",
    "edge_feats": "conv=partial(GINEConv, edge_feats=...)",
    "edge_dim": "conv=partial(GINEConv, edge_feats=...)",
    "num_heads": "conv=lambda i, o: GATConv(i, o // num_heads, num_heads)",
}
WIDER = {readout_mean_max: "MeanMaxReadout", readout_flat: "FlatReadout(in_feats, num_nodes)"}


class Stack(Arguments, nn.Module):
    """Layers in a row, then optionally a jump, a readout per graph, and a head.

    Args:
        blocks: each a `GNNLayer`, a layer, which becomes a `GNNLayer`, or a module called as
            ``block(graph, x, edge, x0)``
        encoder: called on x first. Its output is x0, which initial residuals add
        jump: called on the list of all blocks' outputs (`JumpingKnowledge`)
        readout: called as ``readout(graph, x)``
        head: called on the result
        checkpoint: gradient checkpointing (Chen et al. 2016, arXiv 1604.06174). Of L blocks, the input of every
            sqrt(L)-th is stored, and the blocks between run again in the backward pass. Memory grows with the square
            root of depth, for one more forward pass. Random draws are those of the first pass; batch normalisation
            updates its running statistics in both. With a jump the outputs of all blocks are stored. On Linux's CPUs
            the process shrinks only with ``MALLOC_MMAP_THRESHOLD_=65536`` in its environment: otherwise small
            allocations fragment the memory that large tensors free

    Shapes:
        - x: (N, \\*, in_feats), or what the encoder takes
        - edge: as the blocks take it. Blocks that take none, beside blocks that do, need a list with None for them
        - output: (N_dst, \\*, out_feats), or (B, \\*, out_feats) with a readout

    Example:
        >>> import torch
        >>> from gnnlib import GCNConv, PairNorm, Residual, Stack
        >>> import dgl
        >>> model = Stack.build(GCNConv, 3, 16, 2, num_layers=32, norm=PairNorm, skip=Residual)
        >>> model(dgl.graph(([0, 1], [1, 0])), torch.ones(2, 3)).shape
        torch.Size([2, 2])
    """

    renamed: ClassVar = NAMES

    def __init__(
        self,
        blocks: Sequence[nn.Module],
        *,
        encoder: nn.Module | None = None,
        jump: nn.Module | None = None,
        readout: Readout | None = None,
        head: nn.Module | None = None,
        checkpoint: bool = False,
    ):
        super().__init__()
        check_callables(self, encoder=encoder, jump=jump, readout=readout, head=head)
        self.blocks = nn.ModuleList(as_blocks("Stack", blocks))
        self.encoder, self.jump, self.readout, self.head = encoder, jump, readout, head
        self.checkpoint = checkpoint

    @staticmethod
    @renames("Stack", **NAMES)
    def build(
        conv: Factory,
        in_feats: int,
        hidden_feats: int,
        out_feats: int,
        num_layers: int,
        *,
        norm: Factory | str | None = None,
        skip: Factory | str | None = None,
        activation: Callable[..., Any] | str | None = nn.ReLU,
        dropout: float | nn.Module | Factory = 0.0,
        drop_edge: float | nn.Module | Factory | None = None,
        encoder: bool | nn.Module = False,
        jump: Factory | str | None = None,
        readout: Factory | Readout | str | None = None,
        head: bool | None = None,
        checkpoint: bool = False,
        reversible: int = 0,
        norm_after_skip: bool = False,
        feed_forward: Factory | str | None = None,
    ) -> "Stack":
        """A stack of ``num_layers`` layers of one kind.

        Layer, norm, skip, activation, feed-forward block and jump are given by factories: a class of the library, a
        ``functools.partial`` of one, or a function. A module without parameters, such as ``PairNorm(scale=2.0)``, is
        copied for each layer. A name of the command line stands for its class: ``norm="pairnorm"``,
        ``skip="residual"``, ``jump="cat"``, ``readout="mean"``, ``activation="elu"``.

        Args:
            conv: factory of the layer, called as ``conv(in_feats, out_feats)``. The heads of an attention layer must
                concatenate to out_feats: ``lambda i, o: GATConv(i, o // 4, 4)``
            in_feats: width of x
            hidden_feats: width of the layers between
            out_feats: width of the output
            num_layers: number of layers
            norm: factory of the normalisation, called as ``norm(feats)``. ``torch.nn.BatchNorm1d`` and ``LayerNorm``
                stand for `BatchNorm` and `LayerNorm`
            skip: factory of the skip, called as ``skip(in_feats, out_feats, layer)``. A skip of another width has the
                attribute ``out_feats``, the in_feats of the next layer
            activation: factory of the activation, or a function such as ``torch.relu``; None for no activation
            dropout: a probability, or a module such as `DropNode`, shared by all layers
            drop_edge: a probability, or a module such as `DropEdge`, shared by all layers
            encoder: True for a linear layer and an activation before the first layer, or a module from x to
                hidden_feats, such as `SumOfEmbeddings`. in_feats does not count then
            jump: factory of the jump, called as ``jump(feats, num_layers)``, with the attribute ``out_feats``
            readout: a class such as `MeanReadout` or a ``functools.partial`` of one, called with its in_feats; a module
                with the attribute ``out_feats``; or a function of (graph, x) that keeps the width
            head: whether a linear layer comes last. Default: where there is an encoder, a jump or a readout. Without a
                head the last layer has out_feats and no norm, skip or activation
            checkpoint: as for `Stack`
            reversible: number of groups: each layer is a `ReversibleBlock` of so many layers, each with
                hidden_feats / reversible features, between an encoder and a head
            norm_after_skip: as for `GNNLayer`
            feed_forward: factory of the feed-forward block after each layer but a bare last one, called as
                ``feed_forward(feats)``: `FeedForward`, or a partial of it

        Returns:
            The stack.

        Raises:
            ValueError: if a width or num_layers is below 1; if ``reversible`` does not divide hidden_feats, or comes
                with a jump or without a head; if a jump follows a skip that changes the width; if a readout has another
                in_feats; if dropout or drop_edge is a number and no probability
            TypeError: if an argument is of another kind; the error says what to write
        """
        has_encoder = isinstance(encoder, nn.Module)
        _check_sizes(in_feats=1 if has_encoder else in_feats, hidden_feats=hidden_feats, out_feats=out_feats)
        _check_sizes(num_layers=num_layers, reversible=1 + integer("Stack", "reversible", reversible, minimum=0))
        _check_ends(encoder, head)
        layers = _Layers.of(conv, norm, skip, activation, dropout, drop_edge, norm_after_skip, feed_forward)
        if reversible:
            _check_reversible(reversible, hidden_feats, jump, head)
        encoder = encoder or reversible > 0
        head = bool(encoder or jump or readout) if head is None else head
        width = hidden_feats if encoder else in_feats
        if reversible:
            blocks: list[nn.Module] = [layers.reversible(hidden_feats // reversible, reversible, num_layers)]
        else:
            blocks, width = layers.in_a_row(width, hidden_feats, None if head else out_feats, num_layers)
        merge = _jump(jump, width, hidden_feats, num_layers)
        pool = _readout(readout, getattr(merge, "out_feats", width))
        first = layers.encoder(in_feats, hidden_feats) if encoder is True else encoder or None
        width = getattr(pool, "out_feats", getattr(merge, "out_feats", width))
        top = layers.head(width, out_feats) if head else None
        return Stack(blocks, encoder=first, jump=merge, readout=pool, head=top, checkpoint=checkpoint)

    def reset_parameters(self) -> None:
        """Draw all parameters anew."""
        reset_parameters(*self.children())

    def forward(
        self,
        graph: GraphLike | Sequence[GraphLike],
        x: Tensor,
        edge: Tensor | Sequence[Tensor] | None = None,
    ) -> Tensor:
        """Apply the encoder, all layers, the jump, the readout and the head.

        Args:
            graph: a graph, a batch, or a list of message-flow graphs, one per layer
            x: node features
            edge: edge weights or edge features, or a list of them, one per layer

        Returns:
            Scores of the nodes, (N_dst, \\*, out_feats); with a readout of the graphs, (B, \\*, out_feats).

        Raises:
            ValueError: if the lists have another length than the blocks
        """
        graphs = graph if isinstance(graph, (list, tuple)) else [graph] * len(self.blocks)
        edges = edge if isinstance(edge, (list, tuple)) else [edge] * len(self.blocks)
        for name, values in (("message-flow graphs (DGL blocks)", graphs), ("edge tensors", edges)):
            if len(values) != len(self.blocks):
                batch = (
                    ""
                    if values is edges or all(getattr(g, "is_block", False) for g in graphs)
                    else "gnnlib.graph.batch(graphs), or "
                )
                raise ValueError(f"Stack: expected {batch}{len(self.blocks)} {name}, one per layer, got {len(values)}")
        x0 = x = x if self.encoder is None else self.encoder(x)
        steps = list(zip(self.blocks, graphs, edges, strict=True))
        size = isqrt(len(steps)) + 1 if self.checkpoint else len(steps) + 1
        outputs: list[Tensor] = []
        for start in range(0, len(steps), size):
            run = partial(_run, steps[start : start + size], self.jump is not None)
            outputs += recompute(run, x, x0, use_reentrant=False) if self.checkpoint else run(x, x0)
            x = outputs[-1]
        if self.jump is not None:
            x = self.jump(outputs)
        if self.readout is not None:
            x = self.readout(graph_for(self.readout, graphs[-1] if graphs else graph), x)
        return x if self.head is None else self.head(x)


def _check_sizes(**sizes: Any) -> None:
    for name, value in sizes.items():
        integer("Stack", name, value)


def _check_ends(encoder: Any, head: Any) -> None:
    """Whether the encoder is a flag or a module, and the head a flag."""
    if isinstance(encoder, type) or not (isinstance(encoder, bool) or callable(encoder)):
        raise TypeError(f"Stack: expected encoder to be True, False or a module, got {encoder!r}")
    if head is not None and not isinstance(head, bool):
        got = type(head).__name__ if isinstance(head, nn.Module) else repr(head)
        raise TypeError(
            f"Stack: expected head to be True or False (a head of another form is an argument of "
            f"Stack(blocks, head=...)), got {got}"
        )


class _Layers(NamedTuple):
    """The parts of the layers that `Stack.build` makes."""

    conv: Factory
    norm: Factory | None
    skip: Factory | None
    activation: Factory
    dropout: nn.Module
    drop_edge: nn.Module | None
    norm_after_skip: bool
    feed_forward: Factory | None

    @staticmethod
    def of(
        conv: Any,
        norm: Any,
        skip: Any,
        activation: Any,
        dropout: Any,
        drop_edge: Any,
        norm_after_skip: bool,
        feed_forward: Any,
    ) -> "_Layers":
        """From what `Stack.build` takes."""
        return _Layers(
            as_layer(conv),
            as_factory("norm", norm, NORMS),
            as_factory("skip", skip, SKIPS),
            as_factory("activation", activation, ACTIVATIONS) or nn.Identity,
            as_dropout("Stack", dropout) or Dropout(0.0),
            as_drop_edge("Stack", drop_edge),
            norm_after_skip,
            as_factory("feed_forward", feed_forward, FEED_FORWARDS),
        )

    def make(self, before: int, after: int, layer: int) -> GNNLayer:
        """A layer with norm, skip, activation and feed-forward block."""
        norm, skip = self.norm and self.norm(after), self.skip and self.skip(before, after, layer)
        feed_forward = self.feed_forward and self.feed_forward(getattr(skip, "out_feats", after))
        parts = {"norm": norm, "skip": skip, "activation": self.activation(), **self._drops()}
        conv = self.conv(before, after)
        return GNNLayer(conv, **parts, norm_after_skip=self.norm_after_skip, feed_forward=feed_forward)

    def in_a_row(
        self, width: int, hidden_feats: int, out_feats: int | None, num_layers: int
    ) -> tuple[list[nn.Module], int]:
        """All layers and the width of their output. With ``out_feats`` the last one is bare and has this width."""
        blocks: list[nn.Module] = []
        for layer in range(1, num_layers + (out_feats is None)):
            block = self.make(width, hidden_feats, layer)
            width = cast(int, getattr(block.skip, "out_feats", hidden_feats))
            blocks.append(block)
        if out_feats is not None:
            blocks.append(GNNLayer(self.conv(width, out_feats), **self._drops()))
        return blocks, width

    def reversible(self, width: int, groups: int, num_layers: int) -> Reversible:
        """Reversible layers, each with as many parts as groups."""
        parts = ([self.make(width, width, layer) for _ in range(groups)] for layer in range(1, num_layers + 1))
        return Reversible([ReversibleBlock(part) for part in parts])

    def encoder(self, in_feats: int, out_feats: int) -> nn.Module:
        """A linear layer and an activation."""
        return nn.Sequential(Linear(in_feats, out_feats), self.activation())

    def head(self, in_feats: int, out_feats: int) -> nn.Module:
        """Dropout and a linear layer."""
        return nn.Sequential(self.dropout, Linear(in_feats, out_feats))

    def _drops(self) -> dict[str, Any]:
        return {"dropout": self.dropout, "drop_edge": self.drop_edge}


def _check_reversible(groups: int, hidden_feats: int, jump: Any, head: bool | None) -> None:
    if jump or head is False or hidden_feats % groups:
        got = f"{hidden_feats} features in {groups} groups" if hidden_feats % groups else f"{jump=}, {head=}"
        raise ValueError(f"Stack: reversible layers have groups of equal width, no jump, and a head, got {got}")


def _jump(jump: Any, width: int, hidden_feats: int, num_layers: int) -> Any:
    """The jump of a stack of so many layers, each ``hidden_feats`` wide."""
    factory = as_factory("jump", jump, JUMPS)
    if factory is not None and width != hidden_feats:
        raise ValueError(f"Stack: a jump needs outputs of one width, got {hidden_feats} and {width}")
    return factory and factory(hidden_feats, num_layers)


def _readout(readout: Any, in_feats: int) -> Any:
    """The readout of a stack: classes are called with their width."""
    wider = next((text for function, text in WIDER.items() if readout is function), None)
    if wider is not None:
        raise ValueError(f"Stack: expected {wider}, which has out_feats, got the function {readout.__name__}")
    if isinstance(readout, str) or isinstance(getattr(readout, "func", readout), type):  # a class, or a partial of one
        return cast(Factory, as_factory("readout", readout, READOUTS))(in_feats)
    foreign = str(getattr(readout, "__module__", "")).startswith(("dgl.", "torch_geometric."))
    if readout is not None and (not callable(readout) or (foreign and not isinstance(readout, nn.Module))):
        got = f"{readout.__module__}.{readout.__name__}" if foreign else repr(readout)
        raise TypeError(f"Stack: expected readout to be a class such as MeanReadout, got {got}")
    if getattr(readout, "in_feats", in_feats) != in_feats:
        raise ValueError(f"Stack: expected a readout with in_feats {in_feats}, got {readout}")
    return readout


def _run(steps: Sequence[tuple], keep_all: bool, x: Tensor, x0: Tensor) -> list[Tensor]:
    """The outputs of blocks in a row: of all, or of the last alone."""
    outputs: list[Tensor] = []
    for block, graph, edge in steps:
        x = block(graph, x, edge, x0)
        outputs = [*outputs, x] if keep_all else [x]
    return outputs
