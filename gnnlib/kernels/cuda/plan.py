"""Rows of a graph as items of work: rows by their number of edges, and hubs in pieces.

A program of a kernel takes a tile of items. Rows are sorted by the power of two of their number of edges, the longest
first, so the rows of a tile have about the same number. A row with more than `PIECE` edges is a hub. It is divided
into pieces, whose results are joined in their order: one piece of a hub does not occupy one program for long, and the
bits do not depend on the schedule.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

PIECE = 256
"""The largest number of edges of an item."""


class Items(NamedTuple):
    """Items of work, (I,) int32: item i is the slots start to stop of a row."""

    row: Tensor
    start: Tensor
    stop: Tensor


class Plan(NamedTuple):
    """``rows`` are complete; ``pieces`` are those of hubs; ``join`` has a row per hub, whose slots are its pieces."""

    rows: Items
    pieces: Items | None
    join: "Plan | None"


def plan(indptr: Tensor) -> Plan:
    """The plan of compressed rows with the boundaries indptr (N + 1,), cached on indptr."""
    cached = indptr.__dict__.setdefault("_gnnlib_plan", {})
    if PIECE not in cached:
        row = torch.arange(len(indptr) - 1, dtype=torch.int32, device=indptr.device)
        cached[PIECE] = _plan(row, indptr[:-1], indptr[1:])
    return cached[PIECE]


def _plan(row: Tensor, start: Tensor, stop: Tensor) -> Plan:
    size = stop - start
    is_hub = size > PIECE
    rows = _sorted(*(t[~is_hub] for t in (row, start, stop)))
    if not bool(is_hub.any()):
        return Plan(rows, None, None)
    row, start, stop = (t[is_hub] for t in (row, start, stop))
    counts = (stop - start + PIECE - 1) // PIECE
    bounds = torch.zeros(len(counts) + 1, dtype=torch.int32, device=counts.device)
    bounds[1:] = counts.cumsum(0)
    hub = _repeated(counts)
    first = start[hub] + PIECE * (torch.arange(len(hub), device=hub.device) - bounds[hub])
    pieces = Items(row[hub], first.int(), torch.minimum(first + PIECE, stop[hub]).int())
    return Plan(rows, pieces, _plan(row, bounds[:-1], bounds[1:]))


def _sorted(row: Tensor, start: Tensor, stop: Tensor) -> Items:
    """By the power of two of the number of edges, descending, else in their order."""
    order = torch.argsort(torch.frexp((stop - start).float()).exponent, descending=True, stable=True)
    return Items(*(t[order].contiguous() for t in (row, start, stop)))


def _repeated(counts: Tensor) -> Tensor:
    return torch.repeat_interleave(torch.arange(len(counts), device=counts.device), counts)


def slot_rows(indptr: Tensor) -> Tensor:
    """The row of each slot, (E,) int32, cached on indptr."""
    cached = indptr.__dict__.setdefault("_gnnlib_plan", {})
    if "rows" not in cached:
        cached["rows"] = _repeated(indptr.diff()).int()
    return cached["rows"]


def run(indptr: Tensor, compute: Callable[[Items, Any, bool], Any]) -> None:
    """Runs a kernel over all rows.

    ``compute(items, partial, finish)`` launches it over items: on edges if ``partial`` is None, else on the results of
    pieces. It writes the results of rows if ``finish`` is true, and returns those of pieces otherwise.
    """
    step, partial = plan(indptr), None
    compute(step.rows, partial, True)
    while step.pieces is not None and step.join is not None:
        partial, step = compute(step.pieces, partial, False), step.join
        compute(step.rows, partial, True)
