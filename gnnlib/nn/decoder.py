"""Decoders of links: scores of pairs of nodes from the embeddings of both, with relations in knowledge graphs."""

from typing import ClassVar

import torch
from torch import Tensor, nn

from gnnlib.nn._arguments import Arguments, integer, probability, reset_parameters
from gnnlib.nn.drop import Dropout
from gnnlib.ops.linear import Linear

__all__ = ["Bilinear", "ComplEx", "DistMult", "DotProduct", "HadamardMLP"]

WIDTHS: dict[str, str] = dict.fromkeys(("in_channels", "in_feats", "hidden_dim", "dim"), "feats")


class DotProduct(Arguments, nn.Module):
    r"""Inner product of two embeddings (Kipf and Welling 2016, arXiv 1611.07308, equation 2).

    .. math:: y_{uv} = z_u \cdot z_v

    Differs from the paper: the output is the logit; its sigmoid is the probability of the link. `gnnlib.models.GAE` and
    `gnnlib.models.link_scores` take pairs as node numbers, without copies of their embeddings.

    Shapes:
        - src, dst: (\*, F), broadcast
        - output: (\*)

    Example:
        >>> import torch
        >>> from gnnlib import DotProduct
        >>> DotProduct()(torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0, 4.0]])).tolist()
        [11.0]
    """

    def reset_parameters(self) -> None:
        """Do nothing: there are no parameters."""

    def forward(self, src: Tensor, dst: Tensor) -> Tensor:
        """Score pairs.

        Args:
            src: embeddings of the first nodes, (\\*, F)
            dst: embeddings of the second nodes, (\\*, F)

        Returns:
            The scores, (\\*).
        """
        _check(self, src, dst)
        return (src * dst).sum(-1)


class HadamardMLP(Arguments, nn.Module):
    r"""MLP of the Hadamard product of two embeddings, the decoder of the link baselines of the Open Graph Benchmark (Hu
    et al. 2020, arXiv 2005.00687, section 4.4).

    .. math:: y_{uv} = \mathrm{MLP}\big([z_u \odot z_v \,\Vert\, s_{uv}]\big)

    The s are features of the pair, such as `gnnlib.ops.common_neighbors`. The score is the same in both directions if
    they are. Differs from the paper: without features of pairs, nothing.

    Args:
        feats: width of the embeddings
        hidden: width of the hidden layers; None for feats
        num_layers: number of linear layers, with ReLU and dropout between them
        pair_feats: number of features of a pair
        dropout: probability that an entry is dropped

    Shapes:
        - src, dst: (\*, feats), broadcast
        - pair: (\*, pair_feats), or None without features of pairs
        - output: (\*)

    Raises:
        ValueError: if the embeddings or the features of pairs have another width

    Example:
        >>> import torch
        >>> from gnnlib import HadamardMLP
        >>> HadamardMLP(8)(torch.rand(5, 1, 8), torch.rand(5, 20, 8)).shape
        torch.Size([5, 20])
        >>> HadamardMLP(8, pair_feats=2)(torch.rand(5, 8), torch.rand(5, 8), torch.rand(5, 2)).shape
        torch.Size([5])
    """

    renamed: ClassVar = {**WIDTHS, "hidden_channels": "hidden", "drop": "dropout"}

    def __init__(
        self,
        feats: int,
        *,
        hidden: int | None = None,
        num_layers: int = 3,
        pair_feats: int = 0,
        dropout: float = 0.0,
    ):
        super().__init__()
        self.feats = integer(self, "feats", feats)
        self.hidden = integer(self, "hidden", feats if hidden is None else hidden)
        self.num_layers = integer(self, "num_layers", num_layers)
        self.pair_feats = integer(self, "pair_feats", pair_feats, minimum=0)
        self.dropout = Dropout(probability(self, "dropout", dropout))
        widths = [self.feats + self.pair_feats, *[self.hidden] * (self.num_layers - 1), 1]
        self.layers = nn.ModuleList(map(Linear, widths[:-1], widths[1:]))

    def reset_parameters(self) -> None:
        """Draw all parameters anew."""
        reset_parameters(*self.layers)

    def forward(self, src: Tensor, dst: Tensor, pair: Tensor | None = None) -> Tensor:
        """Score pairs.

        Args:
            src: embeddings of the first nodes, (\\*, feats)
            dst: embeddings of the second nodes, (\\*, feats)
            pair: features of the pairs, (\\*, pair_feats)

        Returns:
            The scores, (\\*).
        """
        _check(self, src, dst, self.feats)
        width = 0 if pair is None else pair.shape[-1]
        if width != self.pair_feats:
            raise ValueError(f"HadamardMLP: expected {self.pair_feats} features of a pair, got {width}")
        y = src * dst
        y = y if pair is None else torch.cat([y, pair.to(y)], -1)
        for layer in self.layers[:-1]:
            y = self.dropout(layer(y).relu())
        return self.layers[-1](y).squeeze(-1)


class Bilinear(Arguments, nn.Module):
    r"""Bilinear form of two embeddings, whose score depends on the direction of a link (Nickel et al. 2011, RESCAL, for
    one relation).

    .. math:: y_{uv} = z_u^T W z_v

    Differs from the paper: one relation. For several, see `DistMult` and `ComplEx`.

    Args:
        feats: width of the embeddings

    Shapes:
        - src, dst: (\*, feats), broadcast
        - output: (\*)

    Raises:
        ValueError: if the embeddings have another width

    Example:
        >>> import torch
        >>> from gnnlib import Bilinear
        >>> decoder, u, v = Bilinear(8), torch.rand(5, 8), torch.rand(5, 8)
        >>> decoder(u, v).shape, torch.equal(decoder(u, v), decoder(v, u))
        (torch.Size([5]), False)
    """

    renamed: ClassVar = WIDTHS

    def __init__(self, feats: int):
        super().__init__()
        self.feats = integer(self, "feats", feats)
        self.linear = Linear(feats, feats, bias=False)

    def reset_parameters(self) -> None:
        """Draw the matrix anew."""
        reset_parameters(self.linear)

    def forward(self, src: Tensor, dst: Tensor) -> Tensor:
        """Score pairs.

        Args:
            src: embeddings of the first nodes, (\\*, feats)
            dst: embeddings of the second nodes, (\\*, feats)

        Returns:
            The scores, (\\*).
        """
        _check(self, src, dst, self.feats)
        return (self.linear(src) * dst).sum(-1)


class _Relational(Arguments, nn.Module):
    """Base of the decoders with an embedding of each relation."""

    renamed: ClassVar = {**WIDTHS, "num_rels": "num_relations"}

    def __init__(self, feats: int, num_relations: int):
        super().__init__()
        self.feats = integer(self, "feats", feats)
        self.num_relations = integer(self, "num_relations", num_relations)
        self.relation = nn.Parameter(torch.empty(self.num_relations, self.feats))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the embeddings of the relations anew, as Glorot and Bengio (2010)."""
        nn.init.xavier_uniform_(self.relation)

    def _rows(self, src: Tensor, dst: Tensor, relation: Tensor) -> Tensor:
        """The embeddings of the relations of pairs."""
        _check(self, src, dst, self.feats)
        if relation.numel() and not 0 <= int(relation.min()) <= int(relation.max()) < self.num_relations:
            raise IndexError(
                f"{type(self).__name__}: expected relations from 0 to {self.num_relations - 1}, got "
                f"{int(relation.min())} to {int(relation.max())}"
            )
        return self.relation[relation]


class DistMult(_Relational):
    r"""DistMult: a diagonal bilinear form for each relation (Yang et al. 2015, arXiv 1412.6575, equation 2 with a
    diagonal matrix).

    .. math:: y_{hrt} = \sum_i z_{hi}\, r_i\, z_{ti}

    The score is the same in both directions. Differs from the paper: nothing.

    Args:
        feats: width of the embeddings
        num_relations: number of relations

    Shapes:
        - src, dst: embeddings of heads and tails, (\*, feats), broadcast
        - relation: (\*), int64, broadcast
        - output: (\*)

    Raises:
        ValueError: if the embeddings have another width
        IndexError: if a relation is out of range

    Example:
        >>> import torch
        >>> from gnnlib import DistMult
        >>> heads, tails, relation = torch.rand(5, 1, 8), torch.rand(5, 20, 8), torch.arange(5)
        >>> DistMult(8, 5)(heads, tails, relation[:, None]).shape
        torch.Size([5, 20])
    """

    def __init__(self, feats: int, num_relations: int):
        super().__init__(feats, num_relations)

    def forward(self, src: Tensor, dst: Tensor, relation: Tensor) -> Tensor:
        """Score triples.

        Args:
            src: embeddings of the heads, (\\*, feats)
            dst: embeddings of the tails, (\\*, feats)
            relation: numbers of the relations, (\\*)

        Returns:
            The scores, (\\*).
        """
        r = self._rows(src, dst, relation)
        src, dst = (src * r, dst) if src.shape[:-1].numel() <= dst.shape[:-1].numel() else (src, dst * r)
        return (src * dst).sum(-1)


class ComplEx(_Relational):
    r"""ComplEx: a diagonal form on complex embeddings for each relation (Trouillon et al. 2016, arXiv 1606.06357,
    equation 9).

    .. math:: y_{hrt} = \mathrm{Re} \sum_i z_{hi}\, r_i\, \bar z_{ti}

    The first half of an embedding is the real part, the second half the imaginary part. Relations with an imaginary
    part have another score in the other direction. Differs from the paper: nothing.

    Args:
        feats: width of the embeddings: twice the number of complex entries
        num_relations: number of relations

    Shapes:
        - src, dst: embeddings of heads and tails, (\*, feats), broadcast
        - relation: (\*), int64, broadcast
        - output: (\*)

    Raises:
        ValueError: if feats is odd, or the embeddings have another width
        IndexError: if a relation is out of range

    Example:
        >>> import torch
        >>> from gnnlib import ComplEx
        >>> heads, tails, relation = torch.rand(5, 8), torch.rand(5, 8), torch.arange(5)
        >>> decoder = ComplEx(8, 5)
        >>> torch.equal(decoder(heads, tails, relation), decoder(tails, heads, relation))
        False
    """

    def __init__(self, feats: int, num_relations: int):
        if integer(self, "feats", feats) % 2:
            raise ValueError(f"ComplEx: expected an even feats, real and imaginary parts, got {feats}")
        super().__init__(feats, num_relations)

    def forward(self, src: Tensor, dst: Tensor, relation: Tensor) -> Tensor:
        """Score triples.

        Args:
            src: embeddings of the heads, (\\*, feats)
            dst: embeddings of the tails, (\\*, feats)
            relation: numbers of the relations, (\\*)

        Returns:
            The scores, (\\*).
        """
        r = self._rows(src, dst, relation)
        if src.shape[:-1].numel() <= dst.shape[:-1].numel():
            return (_product(src, r) * dst).sum(-1)
        return (src * _product(dst, _conjugate(r))).sum(-1)


def _product(a: Tensor, b: Tensor) -> Tensor:
    """The product of complex numbers whose parts are the halves of the last axis."""
    (x, y), (u, v) = a.chunk(2, -1), b.chunk(2, -1)
    return torch.cat([x * u - y * v, x * v + y * u], -1)


def _conjugate(a: Tensor) -> Tensor:
    real, imaginary = a.chunk(2, -1)
    return torch.cat([real, -imaginary], -1)


def _check(owner: nn.Module, src: Tensor, dst: Tensor, feats: int | None = None) -> None:
    width = src.shape[-1] if feats is None else feats
    if src.shape[-1] != width or dst.shape[-1] != width:
        raise ValueError(
            f"{type(owner).__name__}: expected embeddings of width {width}, got {tuple(src.shape)} and "
            f"{tuple(dst.shape)}"
        )
