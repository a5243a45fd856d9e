"""What every layer does with its inputs before its equation: find both ends, check widths and edges."""

from typing import ClassVar

import torch
from torch import Tensor, nn

from gnnlib._platform.dgl import dgl

Features = Tensor | tuple[Tensor, Tensor]


class Conv(nn.Module):
    """A message-passing layer: ``forward(graph, x, edge=None) -> y``.

    ``takes_edge`` says what ``edge`` is to this layer: "weight" (a number per edge), "feature" (a vector per
    edge) or None. A subclass writes its equation and calls the helpers below, which raise before any kernel runs.
    """

    takes_edge: ClassVar[str | None] = None

    def __init__(self, in_feats: int | tuple[int, int], out_feats: int):
        super().__init__()
        for width in (*_pair(in_feats), out_feats):
            if not isinstance(width, int) or width < 1:
                raise ValueError(f"{self._name}: expected positive widths, got {in_feats} -> {out_feats}")
        self.in_feats, self.out_feats = in_feats, out_feats

    @property
    def _name(self) -> str:
        return type(self).__name__

    def ends(self, graph: dgl.DGLGraph, x: Features) -> tuple[Tensor, Tensor | None]:
        """Features of the sources and of the destinations (None where they were not given)."""
        width_src, width_dst = _pair(self.in_feats)
        x_dst: Tensor | None
        if isinstance(x, tuple):
            x_src, x_dst = x
        elif graph.is_block:
            known = dgl.NID in graph.srcdata and dgl.NID in graph.dstdata
            x_src, x_dst = x, x[: graph.num_dst_nodes()] if known else None
        else:
            x_src, x_dst = x, x if graph.is_homogeneous else None
        self._check("x" if x_dst is x_src else "x of the sources", x_src, graph.num_src_nodes(), width_src)
        if x_dst is not None and (x_dst is not x_src or width_dst != width_src):
            self._check("x of the destinations", x_dst, graph.num_dst_nodes(), width_dst)
        return x_src, x_dst

    def both_ends(self, graph: dgl.DGLGraph, x: Features) -> tuple[Tensor, Tensor]:
        """The same for a layer that cannot do without the destinations' own features."""
        x_src, x_dst = self.ends(graph, x)
        if x_dst is None:
            raise ValueError(
                f"{self._name} uses the destinations' own features and this graph has two node sets: "
                f"expected a pair (x_src, x_dst), got one tensor of shape {tuple(x_src.shape)}"
            )
        return x_src, x_dst

    def _check(self, what: str, x: Tensor, rows: int, width: int) -> None:
        if not isinstance(x, Tensor):
            raise TypeError(f"{self._name}: expected {what} to be a tensor, got {type(x).__name__}")
        if not x.is_floating_point():
            raise TypeError(f"{self._name}: expected floating-point {what}, got {x.dtype}; convert with .float()")
        if x.dim() < 2 or len(x) != rows or x.shape[-1] != width:
            raise ValueError(f"{self._name}: expected {what} of shape ({rows}, ..., {width}), got {tuple(x.shape)}")

    def check_edge(self, graph: dgl.DGLGraph, edge: Tensor | None, width: int | None = None) -> None:
        """``edge`` must be (E,) weights, or (E, width) features where a width is given."""
        if edge is None:
            if width is not None:
                raise ValueError(
                    f"{self._name}: expected edge features of shape ({graph.num_edges()}, {width}), got none"
                )
            return
        if self.takes_edge is None:
            raise ValueError(f"{self._name} takes neither edge weights nor edge features, got {_shape(edge)}")
        wanted = (graph.num_edges(),) if width is None else (graph.num_edges(), width)
        if not isinstance(edge, Tensor) or not edge.is_floating_point():
            got = edge.dtype if isinstance(edge, Tensor) else type(edge).__name__
            raise TypeError(f"{self._name}: expected a floating-point tensor of edge {self.takes_edge}s, got {got}")
        if tuple(edge.shape) != wanted:
            raise ValueError(f"{self._name}: expected edge {self.takes_edge}s of shape {wanted}, got {_shape(edge)}")

    def positions(self, graph: dgl.DGLGraph, axes: int) -> list[Tensor]:
        """``pos`` of the sources and of the destinations, each (N, axes) and finite."""
        found = []
        for data in (graph.srcdata, graph.dstdata):
            if "pos" not in data:
                known = sorted(map(str, data))
                raise ValueError(f"{self._name}: expected positions in graph.ndata['pos'], found {known}")
            pos = data["pos"]
            if pos.dim() != 2 or pos.shape[1] != axes:
                raise ValueError(f"{self._name}: expected positions of shape (N, {axes}), got {tuple(pos.shape)}")
            bad = int((~torch.isfinite(pos)).sum())
            if bad:
                raise ValueError(f"{self._name}: expected finite positions, got {bad} NaN or inf")
            found.append(pos)
        return found

    def extra_repr(self) -> str:
        return f"{self.in_feats}, {self.out_feats}"


def _shape(value: object) -> str:
    return f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__


def _pair(in_feats: int | tuple[int, int]) -> tuple[int, int]:
    return in_feats if isinstance(in_feats, tuple) else (in_feats, in_feats)


def add_bias(y: Tensor, bias: Tensor | None) -> Tensor:
    return y if bias is None else y + bias


def add_reusing_memory(y: Tensor, more: Tensor) -> Tensor:
    """y + more, in the memory of y: for a y that the layer has just made and that no derivative needs."""
    return y + more if y._base is not None else y.add_(more)


def glorot(*shape: int) -> nn.Parameter:
    """A weight as Glorot and Bengio (2010) start it, as dgl.nn does."""
    return nn.Parameter(nn.init.xavier_uniform_(torch.empty(*shape)))


def zeros(*shape: int) -> nn.Parameter:
    return nn.Parameter(torch.zeros(*shape))
