"""Counting sort of edges by one of their ends, on one thread."""

import torch
from torch import Tensor

from gnnlib.kernels.cpu.compile import jit

__all__ = ["group"]


@jit
def _group(key, indptr, order):
    for e in range(len(key)):
        indptr[key[e] + 1] += 1
    for v in range(len(indptr) - 1):
        indptr[v + 1] += indptr[v]
    place = indptr[:-1].copy()
    for e in range(len(key)):
        order[place[key[e]]] = e
        place[key[e]] += 1


def group(key: Tensor, num_groups: int) -> tuple[Tensor, Tensor]:
    indptr = torch.zeros(num_groups + 1, dtype=torch.int32)
    order = torch.empty(len(key), dtype=torch.int32)
    _group(key.contiguous().numpy(), indptr.numpy(), order.numpy())
    return indptr, order
