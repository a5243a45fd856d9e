"""Any layer, any remedy, any depth: a `GNNLayer` is a layer with its remedies, a `Stack` is blocks in a row."""

from collections.abc import Callable, Sequence
from functools import partial
from math import isqrt

from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint as run_again

from gnnlib._platform.dgl import dgl
from gnnlib.nn.drop import Dropout
from gnnlib.nn.reversible import Reversible, ReversibleBlock
from gnnlib.ops.linear import Linear

__all__ = ["GNNLayer", "Stack", "concat_heads", "mean_heads"]

Factory = Callable[..., nn.Module]


def concat_heads(y: Tensor) -> Tensor:
    """(N, \\*, H, F) -> (N, \\*, H F)"""
    return y.flatten(-2)


def mean_heads(y: Tensor) -> Tensor:
    """(N, \\*, H, F) -> (N, \\*, F)"""
    return y.mean(-2)


class GNNLayer(nn.Module):
    """One layer with its remedies: drop edges, drop features, convolve, normalise, skip, activate.

    Args:
        conv: any layer of the library, of ``dgl.nn``, or a module called as ``conv(graph, x)``
        norm: called as ``norm(graph, y)``
        skip: called as ``skip(y, x, x0)``, between norm and activation
        activation, dropout: called on features
        drop_edge: called as ``drop_edge(graph, edge)``
        merge: what becomes of the heads of an attention layer

    ``forward(graph, x, edge=None, x0=None)``. ``edge`` reaches a layer that takes it: weights (E,) where
    ``conv.takes_edge`` is "weight", features (E, D) where it is "feature"; other layers do without.

    >>> import torch
    >>> from gnnlib import GATConv, BatchNorm, Residual
    >>> g = dgl.graph(([0, 1], [1, 0]))
    >>> GNNLayer(GATConv(8, 4, num_heads=2), BatchNorm(8), Residual(8, 8), nn.ELU())(g, torch.ones(2, 8)).shape
    torch.Size([2, 8])
    """

    def __init__(
        self,
        conv: nn.Module,
        norm: nn.Module | None = None,
        skip: nn.Module | None = None,
        activation: nn.Module | None = None,
        dropout: nn.Module | None = None,
        drop_edge: nn.Module | None = None,
        merge: Callable[[Tensor], Tensor] = concat_heads,
    ):
        super().__init__()
        self.conv, self.norm, self.skip, self.activation = conv, norm, skip, activation
        self.dropout, self.drop_edge, self.merge = dropout, drop_edge, merge

    def forward(self, graph: dgl.DGLGraph, x: Tensor, edge: Tensor | None = None, x0: Tensor | None = None) -> Tensor:
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


class Stack(nn.Module):
    """Blocks in a row, then perhaps a jump, a readout per graph, and a head.

    Args:
        blocks: each a `GNNLayer`, or a module called as ``block(graph, x, edge, x0)``
        encoder: called on x first; its output is x0, to which initial residuals lead back
        jump: called on the list of all blocks' outputs (`JumpingKnowledge`)
        readout: called as ``readout(graph, x)``
        head: called on the result
        checkpoint: keep what enters every sqrt(L)-th of L blocks alone, and run the blocks in between again in the
            backward pass (Chen et al. 2016, arXiv 1604.06174): memory grows with the square root of depth, for one
            more forward pass. It draws at random what the first pass drew; batch normalisation moves its running
            statistics in both. A jump needs the outputs of all blocks: they are kept then, what is inside is not.
            On Linux's CPUs the process shrinks only with ``MALLOC_MMAP_THRESHOLD_=65536`` in its environment: else
            malloc puts small things where tensors were, which then find no place

    ``forward(graph, x, edge=None)``: graph (and edge) may be a list with one block for each layer.

    >>> import torch
    >>> from gnnlib import GCNConv, PairNorm, Residual
    >>> model = Stack.build(GCNConv, 3, 16, 2, num_layers=32, norm=PairNorm, skip=Residual)
    >>> model(dgl.graph(([0, 1], [1, 0])), torch.ones(2, 3)).shape
    torch.Size([2, 2])
    """

    def __init__(
        self,
        blocks: Sequence[nn.Module],
        encoder: nn.Module | None = None,
        jump: nn.Module | None = None,
        readout: Callable[[dgl.DGLGraph, Tensor], Tensor] | None = None,
        head: nn.Module | None = None,
        checkpoint: bool = False,
    ):
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.encoder, self.jump, self.readout, self.head = encoder, jump, readout, head
        self.checkpoint = checkpoint

    @staticmethod
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
        readout: Callable[[dgl.DGLGraph, Tensor], Tensor] | None = None,
        head: bool | None = None,
        checkpoint: bool = False,
        reversible: int = 0,
    ) -> "Stack":
        """``num_layers`` blocks of the same kind, each remedy given as what makes it.

        ``conv(in_feats, out_feats)``, ``norm(feats)``, ``skip(in_feats, out_feats, layer)``,
        ``jump(feats, num_layers)``: classes of the library, ``functools.partial`` of them, or functions. A skip that
        gives another width says so as ``out_feats``, and the next block takes that; a readout that gives k times its
        width, as ``widens = k``. ``dropout`` is a probability, or a module such as `DropNode`; it and ``drop_edge``
        serve all blocks.

        ``encoder`` puts a linear layer and an activation before the first block, or is what makes hidden_feats of the
        input, such as `SumOfEmbeddings`, of which in_feats says nothing. ``head`` puts a linear layer after
        the last one (default: where there is an encoder, a jump or a readout); without a head the last block gives
        out_feats and has no norm, skip or activation. Attention layers: ``conv`` must return
        heads that join to the width asked for, e.g. ``lambda i, o: GATConv(i, o // 4, 4)``.

        ``reversible`` is a number of groups: each layer is a `ReversibleBlock` of so many parts, each of them
        such a block on hidden_feats / reversible features, between an encoder and a head.

        Raises: ValueError for fewer than one layer; for ``reversible`` with hidden_feats that it does not divide, a
        jump, or no head; for a jump after a skip that widens.
        """
        if num_layers < 1:
            raise ValueError(f"Stack: expected at least one layer, got {num_layers}")
        if reversible and (jump or head is False or hidden_feats % reversible):
            got = (
                f"{hidden_feats} features in {reversible} groups" if hidden_feats % reversible else f"{jump=}, {head=}"
            )
            raise ValueError(f"Stack: reversible layers have groups of equal width, no jump, and a head, got {got}")
        drop = Dropout(dropout) if isinstance(dropout, (int, float)) else dropout

        def make(before: int, after: int, layer: int) -> GNNLayer:
            made = norm(after) if norm else None, skip(before, after, layer) if skip else None
            return GNNLayer(conv(before, after), *made, activation(), drop, drop_edge)

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
        jumped = jump(hidden_feats, num_layers) if jump else None
        width = getattr(jumped, "out_feats", width)
        width *= getattr(readout, "widens", 1)
        if encoder is True:
            encoder = nn.Sequential(Linear(in_feats, hidden_feats), activation())
        top = nn.Sequential(drop, Linear(width, out_feats)) if head else None
        return Stack(blocks, encoder if encoder is not False else None, jumped, readout, top, checkpoint)

    def forward(
        self,
        graph: dgl.DGLGraph | Sequence[dgl.DGLGraph],
        x: Tensor,
        edge: Tensor | Sequence[Tensor] | None = None,
    ) -> Tensor:
        graphs = graph if isinstance(graph, (list, tuple)) else [graph] * len(self.blocks)
        edges = edge if isinstance(edge, (list, tuple)) else [edge] * len(self.blocks)
        if len(graphs) != len(self.blocks) or len(edges) != len(self.blocks):
            raise ValueError(f"Stack: expected {len(self.blocks)} blocks, one a layer, got {len(graphs)}, {len(edges)}")
        x0 = x = x if self.encoder is None else self.encoder(x)
        steps = list(zip(self.blocks, graphs, edges, strict=True))
        size = isqrt(len(steps)) + 1 if self.checkpoint else len(steps) + 1
        outputs: list[Tensor] = []
        for start in range(0, len(steps), size):
            run = partial(_run, steps[start : start + size], self.jump is not None)
            outputs += run_again(run, x, x0, use_reentrant=False) if self.checkpoint else run(x, x0)
            x = outputs[-1]
        if self.jump is not None:
            x = self.jump(outputs)
        if self.readout is not None:
            x = self.readout(graphs[-1] if graphs else graph, x)
        return x if self.head is None else self.head(x)


def _run(steps: Sequence[tuple], every: bool, x: Tensor, x0: Tensor) -> list[Tensor]:
    """The outputs of blocks in a row: of every one, or of the last alone."""
    outputs: list[Tensor] = []
    for block, graph, edge in steps:
        x = block(graph, x, edge, x0)
        outputs = [*outputs, x] if every else [x]
    return outputs


def _reversible(make: Callable[[int, int, int], GNNLayer], width: int, groups: int, num_layers: int) -> Reversible:
    def parts(layer: int) -> list[GNNLayer]:
        return [make(width, width, layer) for _ in range(groups)]

    return Reversible([ReversibleBlock(parts(layer)) for layer in range(1, num_layers + 1)])
