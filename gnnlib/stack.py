"""Any layer, any remedy, any depth: a `Block` is a layer with its remedies, a `Stack` is blocks in a row."""

from collections.abc import Callable, Sequence
from itertools import pairwise

from torch import Tensor, nn

from gnnlib._dgl import dgl

__all__ = ["Block", "Stack", "concat_heads", "mean_heads"]

Factory = Callable[..., nn.Module]


def concat_heads(y: Tensor) -> Tensor:
    """(N, \\*, H, F) -> (N, \\*, H F)"""
    return y.flatten(-2)


def mean_heads(y: Tensor) -> Tensor:
    """(N, \\*, H, F) -> (N, \\*, F)"""
    return y.mean(-2)


class Block(nn.Module):
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
    >>> Block(GATConv(8, 4, num_heads=2), BatchNorm(8), Residual(8, 8), nn.ELU())(g, torch.ones(2, 8)).shape
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
        blocks: each a `Block`, or a module called as ``block(graph, x, edge, x0)``
        encoder: called on x first; its output is x0, to which initial residuals lead back
        jump: called on the list of all blocks' outputs (`JumpingKnowledge`)
        readout: called as ``readout(graph, x)``
        head: called on the result

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
    ):
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.encoder, self.jump, self.readout, self.head = encoder, jump, readout, head

    @classmethod
    def build(
        cls,
        conv: Factory,
        in_feats: int,
        hidden_feats: int,
        out_feats: int,
        num_layers: int,
        *,
        norm: Factory | None = None,
        skip: Factory | None = None,
        activation: Callable[[], nn.Module] = nn.ReLU,
        dropout: float = 0.0,
        drop_edge: nn.Module | None = None,
        encoder: bool = False,
        jump: Factory | None = None,
        readout: Callable[[dgl.DGLGraph, Tensor], Tensor] | None = None,
        head: bool | None = None,
    ) -> "Stack":
        """``num_layers`` blocks of the same kind, each remedy given as what makes it.

        ``conv(in_feats, out_feats)``, ``norm(feats)``, ``skip(in_feats, out_feats, layer)``,
        ``jump(feats, num_layers)``: classes of the library, ``functools.partial`` of them, or functions.

        ``encoder`` puts a linear layer and an activation before the first block. ``head`` puts a linear layer after
        the last one (default: where there is an encoder, a jump or a readout); without a head the last block gives
        out_feats and has no norm, skip or activation. Attention layers: ``conv`` must return
        heads that join to the width asked for, e.g. ``lambda i, o: GATConv(i, o // 4, 4)``.

        Raises: ValueError for fewer than one layer.
        """
        if num_layers < 1:
            raise ValueError(f"Stack: expected at least one layer, got {num_layers}")
        head = head if head is not None else bool(encoder or jump or readout)
        last = hidden_feats if head else out_feats
        widths = [hidden_feats if encoder else in_feats, *[hidden_feats] * (num_layers - 1), last]
        blocks = []
        for layer, (before, after) in enumerate(pairwise(widths), 1):
            bare = layer == num_layers and not head
            blocks.append(
                Block(
                    conv(before, after),
                    norm(after) if norm and not bare else None,
                    skip(before, after, layer) if skip and not bare else None,
                    None if bare else activation(),
                    nn.Dropout(dropout) if dropout else None,
                    drop_edge,
                )
            )
        jumped = jump(hidden_feats, num_layers) if jump else None
        width = getattr(jumped, "out_feats", hidden_feats)
        first = nn.Sequential(nn.Linear(in_feats, hidden_feats), activation()) if encoder else None
        top = nn.Sequential(nn.Dropout(dropout), nn.Linear(width, out_feats)) if head else None
        return cls(blocks, first, jumped, readout, top)

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
        outputs = []
        for block, g, e in zip(self.blocks, graphs, edges, strict=True):
            x = block(g, x, e, x0)
            outputs.append(x)
        if self.jump is not None:
            x = self.jump(outputs)
        if self.readout is not None:
            x = self.readout(graphs[-1], x)
        return x if self.head is None else self.head(x)
