"""Edges sorted by an integer on each of them: a tap of a window, or a relation."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from gnnlib import kernels
from gnnlib.graph import Adjacency, CompressedRows
from gnnlib.graph._adjacency import constants
from gnnlib.graph._derived import Identity, tensor_state
from gnnlib.ops.autograd.operation import Operator

__all__ = ["TapRows", "TapShare", "tap_rows"]


class TapRows(NamedTuple):
    """The pairs of a tap and a row that have an edge, in the order of taps, then of rows.

    Shapes:
        - edges: the edges of P pairs
        - rows: (P,) int64, the row of each pair
        - starts: K + 1 numbers, the first pair of each tap
    """

    edges: CompressedRows
    rows: Tensor
    starts: list[int]


def tap_rows(adj: CompressedRows, taps: Tensor, num_taps: int) -> TapRows:
    """The pairs of rows of ``adj`` with taps from 0 to ``num_taps`` - 1, (E,) by edge id.

    The pairs of the last taps are cached on ``adj.indices``, until the taps change.
    """
    state = num_taps, tensor_state(taps)
    cached: Any = adj.indices.__dict__.get("_gnnlib_tap_rows")
    if cached is None or None in state or cached[0] != Identity(taps) or cached[1] != state:
        with constants():
            cached = Identity(taps), state, _sort(adj, taps, num_taps)
        adj.indices.__dict__["_gnnlib_tap_rows"] = cached
    return cached[2]


class TapShare(Operator):
    """taps (E,) -> (E,): one over the number of edges with the same tap and destination; cached with the pairs."""

    schema = "Tensor taps, adj, SymInt num_taps, ScalarType dtype -> Tensor"

    @staticmethod
    def forward(taps: Tensor, adj: Adjacency, num_taps: int, dtype: torch.dtype) -> Tensor:
        pairs = tap_rows(adj.csc, taps, num_taps)
        shares = pairs.rows.__dict__.setdefault("_gnnlib_shares", {})
        if dtype not in shares:
            with constants():
                sizes, share = pairs.edges.indptr.diff().long(), TapShare.fake(taps, adj, num_taps, dtype)
                values = (1 / sizes.double()).to(dtype).repeat_interleave(sizes)
                shares[dtype] = share.index_copy_(0, pairs.edges.eid.long(), values)
        return shares[dtype]

    @classmethod
    def _kernel(cls, *args: Any) -> Any:
        """A copy: compiled functions may write to the results of operators."""
        return super()._kernel(*args).clone()

    @staticmethod
    def fake(taps: Tensor, adj: Adjacency, num_taps: int, dtype: torch.dtype) -> Tensor:
        return torch.empty(len(taps), dtype=dtype, device=taps.device)


def _sort(adj: CompressedRows, taps: Tensor, num_taps: int) -> TapRows:
    num_edges, sizes = len(adj.eid), adj.indptr.diff().long()
    row = torch.arange(len(sizes), device=sizes.device).repeat_interleave(sizes)
    first, order = kernels.choose(adj.eid).group(taps[adj.eid.long()].int(), num_taps)
    order = order.long()
    row, is_first = row[order], torch.ones(num_edges, dtype=torch.bool, device=sizes.device)
    is_first[1:] = row[1:] != row[:-1]
    is_first[first[first < num_edges].long()] = True
    start = is_first.nonzero().squeeze(1)
    indptr = torch.cat([start, start.new_full((1,), num_edges)])
    edges = CompressedRows(indptr.int(), adj.indices[order], adj.eid[order])
    return TapRows(edges, row[start], torch.searchsorted(start, first.long()).tolist())
