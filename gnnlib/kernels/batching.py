"""Runs of rows cut out of flat arrays and laid end to end: how many small graphs become a batch. On the CPU only."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from gnnlib.kernels.cpu.compile import jit

__all__ = ["Runs", "copy_runs", "find_runs", "shift_runs"]


class Runs(NamedTuple):
    """Run i is rows first[i] to first[i] + size[i] of the source, and rows place[i] to place[i + 1] of the result.

    Shapes: first, size (B,), place (B + 1,), int64.
    """

    first: np.ndarray
    size: np.ndarray
    place: np.ndarray

    @staticmethod
    def all(bounds: np.ndarray) -> "Runs":
        """Every piece that bounds (G + 1,) cuts an array into."""
        return Runs(bounds[:-1], np.diff(bounds), bounds)


@jit
def _find(chosen, bounds, others, runs):
    for k in range(2):
        at, (first, size, place) = bounds if k == 0 else others, runs[k]
        place[0] = 0
        for i in range(len(chosen)):
            first[i] = at[chosen[i]]
            size[i] = at[chosen[i] + 1] - first[i]
            place[i + 1] = place[i] + size[i]


def find_runs(chosen: np.ndarray, bounds: np.ndarray, others: np.ndarray) -> tuple[Runs, Runs]:
    """The pieces numbered chosen (B,), int64, of those that bounds (G + 1,) cuts an array into, and others another."""
    runs = np.empty((2, 3, len(chosen) + 1), np.int64)
    _find(chosen, bounds, others, runs)
    return Runs(runs[0, 0, :-1], runs[0, 1, :-1], runs[0, 2]), Runs(runs[1, 0, :-1], runs[1, 1, :-1], runs[1, 2])


@jit
def _copy(x, first, size, place, width, y):
    for i in range(len(first)):
        start, stop = first[i] * width, (first[i] + size[i]) * width
        source, target = x[start:stop], y[place[i] * width : place[i + 1] * width]
        for j in range(len(target)):
            target[j] = source[j]


def copy_runs(x: Tensor, runs: Runs) -> Tensor:
    """x (N, \\*) of any dtype -> (place[-1], \\*)"""
    y = x.new_empty(runs.place[-1], *x.shape[1:])
    width = x.shape[1:].numel() * x.element_size()
    _copy(_bytes(x), *runs, width, _bytes(y))
    return y


def _bytes(x: Tensor) -> np.ndarray:
    try:
        return x.numpy().reshape(-1).view(np.uint8)  # in half the time that torch takes for it
    except TypeError:  # numpy has no bfloat16
        return x.view(-1).view(torch.uint8).numpy()


@jit
def _shift(x, first, size, place, by, y):
    runs = len(first)
    for i in range(runs):
        source, target, shift = x[first[i] : first[i] + size[i]], y[place[i] : place[i + 1]], by[i]
        for j in range(len(target)):
            target[j] = source[j] + shift
    if len(y) > place[runs]:
        y[place[runs]] = by[runs]


def shift_runs(x: Tensor, runs: Runs, by: np.ndarray, dtype: torch.dtype, closed: bool = False) -> Tensor:
    """x (N,) integers, by (B + 1,) -> (place[-1],): by[i] is added to run i. Closed: one row more, by[B]."""
    y = torch.empty(runs.place[-1] + closed, dtype=dtype)
    _shift(x.numpy(), *runs, by, y.numpy())
    return y
