"""Networks of any layer at any depth: `GNNLayer`, a layer with dropout, normalisation and skip, and `Stack`."""

from collections.abc import Callable, Sequence
from functools import partial
from math import isqrt
from typing import Any, ClassVar, cast

from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint as recompute

from gnnlib._platform.dgl import dgl
from gnnlib.nn._arguments import Arguments, integer, renames, reset_parameters
from gnnlib.nn.drop import Dropout
from gnnlib.nn.readout import readout_flat, readout_mean_max
from gnnlib.nn.reversible import Reversible, ReversibleBlock
from gnnlib.ops.linear import Linear

__all__ = ["GNNLayer", "Stack", "concat_heads", "mean_heads"]

Factory = Callable[..., nn.Module]
Readout = Callable[[dgl.DGLGraph, Tensor], Tensor]
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
    "num_heads": "conv=lambda i, o: GATConv(i, o // num_heads, num_heads)",
}
WIDER = {readout_mean_max: "MeanMaxReadout", readout_flat: "FlatReadout(in_feats, num_nodes)"}


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


def _check_callables(owner: object, **values: Any) -> None:
    """Modules or functions, or None: a class is what `Stack.build` takes."""
    for name, value in values.items():
        if value is not None and (isinstance(value, type) or not callable(value)):
            got = f"the class {value.__name__}" if isinstance(value, type) else repr(value)
            raise TypeError(f"{type(owner).__name__}: expected {name} to be a module, got {got}")


class GNNLayer(Arguments, nn.Module):
    """A convolution with dropout of edges and features, normalisation, skip and activation, in this order.

    Args:
        conv: any layer of the library, of ``dgl.nn``, or a module called as ``conv(graph, x)``
        norm: called as ``norm(graph, y)``
        skip: called as ``skip(y, x, x0)``, between norm and activation
        activation: called on features
        dropout: called on features
        drop_edge: called as ``drop_edge(graph, edge)``
        merge: called on the output of an attention layer, (N, \\*, H, F)

    Shapes:
        - x: as ``conv`` takes it
        - edge: weights (E,) for a layer whose ``takes_edge`` is "weight", features (E, D) where it is "feature". Other
          layers are called without
        - output: as ``conv`` gives it, heads merged

    Raises:
        TypeError: if an argument is no module or function

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
        dropout: nn.Module | None = None,
        drop_edge: nn.Module | None = None,
        merge: Callable[[Tensor], Tensor] = concat_heads,
    ):
        super().__init__()
        modules = dict(norm=norm, skip=skip, activation=activation, dropout=dropout, drop_edge=drop_edge, merge=merge)
        _check_callables(self, conv=conv, **modules)
        self.conv, self.norm, self.skip, self.activation = conv, norm, skip, activation
        self.dropout, self.drop_edge, self.merge = dropout, drop_edge, merge

    def reset_parameters(self) -> None:
        """Draw all parameters anew."""
        reset_parameters(*self.children())

    def forward(self, graph: dgl.DGLGraph, x: Tensor, edge: Tensor | None = None, x0: Tensor | None = None) -> Tensor:
        """Drop edges and features, convolve, normalise, skip, activate.

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
        y = self.conv(graph, h, edge) if self._takes(edge) else self.conv(graph, h)
        if y.dim() > h.dim():
            y = self.merge(y)
        if self.norm is not None:
            y = self.norm(graph, y)
        if self.skip is not None:
            y = self.skip(y, x, x0)
        return y if self.activation is None else self.activation(y)

    def _takes(self, edge: Tensor | None) -> bool:
        kind = getattr(self.conv, "takes_edge", None)
        return edge is not None and kind == ("weight" if edge.dim() == 1 else "feature")


class Stack(Arguments, nn.Module):
    """Layers in a row, then optionally a jump, a readout per graph, and a head.

    Args:
        blocks: each a `GNNLayer`, or a module called as ``block(graph, x, edge, x0)``
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
        - edge: as the blocks take it
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
        _check_callables(self, encoder=encoder, jump=jump, readout=readout, head=head)
        self.blocks = nn.ModuleList(blocks)
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
        norm: Factory | None = None,
        skip: Factory | None = None,
        activation: Callable[[], nn.Module] = nn.ReLU,
        dropout: float | nn.Module = 0.0,
        drop_edge: nn.Module | None = None,
        encoder: bool | nn.Module = False,
        jump: Factory | None = None,
        readout: Factory | Readout | None = None,
        head: bool | None = None,
        checkpoint: bool = False,
        reversible: int = 0,
    ) -> "Stack":
        """A stack of ``num_layers`` layers of one kind.

        Layer, norm, skip, activation and jump are given by factories: a class of the library, a ``functools.partial``
        of one, or a function.

        Args:
            conv: factory of the layer, called as ``conv(in_feats, out_feats)``. The heads of an attention layer must
                concatenate to out_feats: ``lambda i, o: GATConv(i, o // 4, 4)``
            in_feats: width of x
            hidden_feats: width of the layers between
            out_feats: width of the output
            num_layers: number of layers
            norm: factory of the normalisation, called as ``norm(feats)``
            skip: factory of the skip, called as ``skip(in_feats, out_feats, layer)``. A skip of another width has the
                attribute ``out_feats``, the in_feats of the next layer
            activation: factory of the activation
            dropout: a probability, or a module such as `DropNode`, shared by all layers
            drop_edge: a module such as `DropEdge`, shared by all layers
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

        Returns:
            The stack.

        Raises:
            ValueError: if num_layers, hidden_feats or out_feats is below 1; if ``reversible`` does not divide
                hidden_feats, or comes with a jump or without a head; if a jump follows a skip that changes the width;
                if a readout has another in_feats
            TypeError: if a factory is a module
        """
        for name, value in {"hidden_feats": hidden_feats, "out_feats": out_feats, "num_layers": num_layers}.items():
            integer("Stack", name, value)
        _check_factories(conv=conv, norm=norm, skip=skip, activation=activation, jump=jump)
        if reversible:
            _check_reversible(reversible, hidden_feats, jump, head)
        drop = Dropout(dropout) if isinstance(dropout, (int, float)) else dropout

        def make(before: int, after: int, layer: int) -> GNNLayer:
            normalise, shortcut = norm and norm(after), skip and skip(before, after, layer)
            options = dict(norm=normalise, skip=shortcut, dropout=drop, drop_edge=drop_edge)
            return GNNLayer(conv(before, after), activation=activation(), **options)  # type: ignore[arg-type]

        encoder = encoder or reversible > 0
        head = bool(encoder or jump or readout) if head is None else head
        width = hidden_feats if encoder else in_feats
        blocks: list[nn.Module] = []
        if reversible:
            blocks.append(_reversible(make, hidden_feats // reversible, reversible, num_layers))
        else:
            for layer in range(1, num_layers + head):
                blocks.append(make(width, hidden_feats, layer))
                width = getattr(blocks[-1].skip, "out_feats", hidden_feats)
            if not head:
                blocks.append(GNNLayer(conv(width, out_feats), dropout=drop, drop_edge=drop_edge))
        if jump and width != hidden_feats:
            raise ValueError(f"Stack: a jump needs outputs of one width, got {hidden_feats} and {width}")
        merge = jump(hidden_feats, num_layers) if jump else None
        width = getattr(merge, "out_feats", width)
        pool = _readout(readout, width)
        width = getattr(pool, "out_feats", width)
        if encoder is True:
            encoder = nn.Sequential(Linear(in_feats, hidden_feats), activation())
        top = nn.Sequential(drop, Linear(width, out_feats)) if head else None
        first = encoder if encoder is not False else None
        return Stack(blocks, encoder=first, jump=merge, readout=pool, head=top, checkpoint=checkpoint)

    def reset_parameters(self) -> None:
        """Draw all parameters anew."""
        reset_parameters(*self.children())

    def forward(
        self,
        graph: dgl.DGLGraph | Sequence[dgl.DGLGraph],
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
                raise ValueError(f"Stack: expected {len(self.blocks)} {name}, one per layer, got {len(values)}")
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
            x = self.readout(graphs[-1] if graphs else graph, x)
        return x if self.head is None else self.head(x)


def _check_factories(**factories: Any) -> None:
    for name, factory in factories.items():
        if factory is not None and (isinstance(factory, nn.Module) or not callable(factory)):
            raise TypeError(f"Stack: expected {name} to be a class or a function that makes a module, got {factory!r}")


def _check_reversible(groups: int, hidden_feats: int, jump: Factory | None, head: bool | None) -> None:
    if jump or head is False or hidden_feats % groups:
        got = f"{hidden_feats} features in {groups} groups" if hidden_feats % groups else f"{jump=}, {head=}"
        raise ValueError(f"Stack: reversible layers have groups of equal width, no jump, and a head, got {got}")


def _readout(readout: Factory | Readout | None, in_feats: int) -> Any:
    """The readout of a stack: classes are called with their width."""
    for function, name in WIDER.items():
        if readout is function:
            raise ValueError(f"Stack: expected {name}, which has out_feats, got the function {function.__name__}")
    if isinstance(getattr(readout, "func", readout), type):  # a class, or a partial of one
        return cast(Factory, readout)(in_feats)
    width = getattr(readout, "in_feats", in_feats)
    if width != in_feats:
        raise ValueError(f"Stack: expected a readout with in_feats {in_feats}, got {readout}")
    return readout


def _run(steps: Sequence[tuple], keep_all: bool, x: Tensor, x0: Tensor) -> list[Tensor]:
    """The outputs of blocks in a row: of all, or of the last alone."""
    outputs: list[Tensor] = []
    for block, graph, edge in steps:
        x = block(graph, x, edge, x0)
        outputs = [*outputs, x] if keep_all else [x]
    return outputs


def _reversible(make: Callable[[int, int, int], GNNLayer], width: int, groups: int, num_layers: int) -> Reversible:
    def parts(layer: int) -> list[GNNLayer]:
        return [make(width, width, layer) for _ in range(groups)]

    return Reversible([ReversibleBlock(parts(layer)) for layer in range(1, num_layers + 1)])
