"""Categories to features: sums of embeddings, and one-hot columns."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

__all__ = ["SumOfEmbeddings", "one_hot"]


class SumOfEmbeddings(nn.EmbeddingBag):
    r"""Rows of categories to features: an embedding for each column, summed, as the Open Graph Benchmark encodes atoms
    (Hu et al. 2020, arXiv 2005.00687, section 5).

    .. math:: y_v = \sum_c T_c[x_{vc}]

    Args:
        sizes: the number of categories in each column
        feats: width of y

    Shapes: codes (N, C), int64, from 0 to the column's size less 1; returns (N, feats). Memory: no (N, C, feats).

    Raises: ValueError for another number of columns, or codes out of range, naming the column.

    Differs from the paper: nothing. All tables are one, in which each column has its rows.

    >>> SumOfEmbeddings([5, 3], 8)(torch.tensor([[4, 0], [0, 2]])).shape
    torch.Size([2, 8])
    """

    first: Tensor

    def __init__(self, sizes: Sequence[int], feats: int):
        super().__init__(sum(sizes), feats, mode="sum")
        self.sizes = tuple(sizes)
        with torch.no_grad():
            for table in self.weight.split(list(sizes)):
                nn.init.xavier_uniform_(table)
        self.register_buffer("first", _first(sizes), persistent=False)

    def forward(self, codes: Tensor) -> Tensor:  # type: ignore[override]
        _check(codes, self.sizes)
        return super().forward(codes + self.first)


def one_hot(codes: Tensor, sizes: Sequence[int]) -> Tensor:
    """Categories (N, C) as columns of 0 and 1 side by side, (N, sum of sizes): a linear layer on them sums embeddings.

    Raises: as `SumOfEmbeddings`.

    >>> one_hot(torch.tensor([[1, 0], [0, 2]]), [2, 3]).int().tolist()
    [[0, 1, 1, 0, 0], [1, 0, 0, 0, 1]]
    """
    _check(codes, sizes)
    return torch.zeros(len(codes), sum(sizes), device=codes.device).scatter_(1, codes + _first(sizes).to(codes), 1.0)


def _first(sizes: Sequence[int]) -> Tensor:
    """Where each column's rows begin."""
    return torch.tensor([0, *sizes]).cumsum(0)[:-1]


def _check(codes: Tensor, sizes: Sequence[int]) -> None:
    if codes.dim() != 2 or codes.shape[1] != len(sizes) or codes.dtype != torch.int64:
        raise ValueError(f"expected codes (N, {len(sizes)}) of int64, got {tuple(codes.shape)} of {codes.dtype}")
    if len(codes):
        low, high = codes.aminmax(dim=0)
        for column, (least, most, size) in enumerate(zip(low.tolist(), high.tolist(), sizes, strict=True)):
            if least < 0 or most >= size:
                raise ValueError(f"column {column}: expected codes from 0 to {size - 1}, got {least} to {most}")
