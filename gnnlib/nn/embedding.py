"""Embeddings of categorical features: sums of embeddings, and one-hot columns."""

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from gnnlib._utils.calls import names_checked
from gnnlib.nn._arguments import Arguments, integer

__all__ = ["SumOfEmbeddings", "one_hot"]


class SumOfEmbeddings(Arguments, nn.EmbeddingBag):
    r"""Sum of embeddings, one for each column of categories, as the Open Graph Benchmark encodes atoms (Hu et al. 2020,
    arXiv 2005.00687, section 5).

    .. math:: y_v = \sum_c T_c[x_{vc}]

    All tables are one, in which each column has its rows. No tensor (N, C, feats) is stored. Differs from the paper:
    nothing.

    Args:
        sizes: number of categories in each column
        feats: width of y

    Shapes:
        - codes: (N, C), int64, from 0 to the column's size less 1
        - output: (N, feats)

    Raises:
        ValueError: if a size or feats is below 1
        ValueError: if the codes have another number of columns, or are out of range, naming the column

    Example:
        >>> import torch
        >>> from gnnlib import SumOfEmbeddings
        >>> SumOfEmbeddings([5, 3], 8)(torch.tensor([[4, 0], [0, 2]])).shape
        torch.Size([2, 8])
    """

    renamed: ClassVar = {
        "emb_dim": "feats",
        "embedding_dim": "feats",
        "out_channels": "feats",
        "num_embeddings": "sizes, the number of categories in each column",
    }
    first: Tensor

    def __init__(self, sizes: Sequence[int], feats: int):
        sizes = tuple(integer(self, "sizes", size) for size in sizes)
        super().__init__(sum(sizes), integer(self, "feats", feats), mode="sum")
        self.sizes = sizes
        self._draw_tables()
        self.register_buffer("first", _first(sizes), persistent=False)

    @property
    def feats(self) -> int:
        return self.embedding_dim

    def reset_parameters(self) -> None:
        """Draw all tables anew as Glorot and Bengio (2010)."""
        super().reset_parameters()
        if hasattr(self, "sizes"):  # the base class calls this before there are any
            self._draw_tables()

    def _draw_tables(self) -> None:
        with torch.no_grad():
            for table in self.weight.split(list(self.sizes)):
                nn.init.xavier_uniform_(table)

    def forward(self, codes: Tensor) -> Tensor:  # type: ignore[override]
        """Sum the embeddings of each row.

        Args:
            codes: categories, (N, C)

        Returns:
            The sums, (N, feats).
        """
        _check(codes, self.sizes)
        return super().forward(codes + self.first)


@names_checked()
def one_hot(codes: Tensor, sizes: Sequence[int]) -> Tensor:
    """One-hot columns of categories, concatenated: a linear layer on them is a sum of embeddings.

    Args:
        codes: categories
        sizes: number of categories in each column

    Shapes:
        - codes: (N, C), int64
        - output: (N, sum of sizes)

    Returns:
        Columns of 0 and 1.

    Raises:
        ValueError: if the codes have another number of columns, or are out of range, naming the column

    Example:
        >>> import torch
        >>> from gnnlib import one_hot
        >>> one_hot(torch.tensor([[1, 0], [0, 2]]), [2, 3]).int().tolist()
        [[0, 1, 1, 0, 0], [1, 0, 0, 0, 1]]
    """
    _check(codes, sizes)
    return torch.zeros(len(codes), sum(sizes), device=codes.device).scatter_(1, codes + _first(sizes).to(codes), 1.0)


def _first(sizes: Sequence[int]) -> Tensor:
    """The first row of each column."""
    return torch.tensor([0, *sizes]).cumsum(0)[:-1]


def _check(codes: Tensor, sizes: Sequence[int]) -> None:
    if not isinstance(sizes, (list, tuple)):
        raise TypeError(f"expected sizes to be a list, the number of categories of each column, got {sizes!r}")
    if codes.dim() != 2 or codes.shape[1] != len(sizes) or codes.dtype != torch.int64:
        raise ValueError(f"expected codes (N, {len(sizes)}) of int64, got {tuple(codes.shape)} of {codes.dtype}")
    if len(codes):
        low, high = codes.aminmax(dim=0)
        for column, (lowest, highest, size) in enumerate(zip(low.tolist(), high.tolist(), sizes, strict=True)):
            if lowest < 0 or highest >= size:
                raise ValueError(f"column {column}: expected codes from 0 to {size - 1}, got {lowest} to {highest}")
