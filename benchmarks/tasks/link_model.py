"""A network that scores pairs of nodes, and the pairs of a step of its training."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from gnnlib import Bilinear, ComplEx, DistMult, DotProduct, HadamardMLP
from gnnlib.benchmarks.tasks.link_data import LinkData, Pairs
from gnnlib.graph import GraphLike
from gnnlib.ops import adamic_adar, common_neighbors, personalized_pagerank, resource_allocation

__all__ = ["DECODERS", "NEGATIVES", "SCORES", "LinkInput", "LinkPredictor", "negatives", "pair_features"]

DECODERS: dict[str, Callable[[int, int, int], nn.Module]] = {
    "dot": lambda width, pair_feats, relations: DotProduct(),
    "hadamard": lambda width, pair_feats, relations: HadamardMLP(width, pair_feats=pair_feats),
    "bilinear": lambda width, pair_feats, relations: Bilinear(width),
    "distmult": lambda width, pair_feats, relations: DistMult(width, relations),
    "complex": lambda width, pair_feats, relations: ComplEx(width, relations),
}
"""Decoders by name, of the width of embeddings and the numbers of features of a pair and of relations."""

SCORES: dict[str, Callable[..., Tensor]] = {
    "common-neighbors": common_neighbors,
    "adamic-adar": adamic_adar,
    "resource-allocation": resource_allocation,
    "pagerank": personalized_pagerank,
}
"""Neighbourhood scores by name."""

NEGATIVES = ("uniform", "source", "given", "all")
MAX_ENTRIES = 2**24  # of embeddings of pairs at a time


class LinkInput(NamedTuple):
    """The input of a `LinkPredictor`: features or numbers of the nodes, and pairs with their relations and features."""

    feat: Tensor
    src: Tensor
    dst: Tensor
    relation: Tensor | None = None
    pair: Tensor | None = None


class LinkPredictor(nn.Module):
    """Scores of pairs: a decoder of the embeddings that an encoder computes from features, or from a table of them.

    Args:
        encoder: called as ``encoder(graph, x, edge)``; None for the table alone
        decoder: of `DECODERS`
        table: features of the nodes that are learned; None where there are others
    """

    def __init__(self, encoder: nn.Module | None, decoder: nn.Module, table: nn.Embedding | None = None):
        super().__init__()
        self.encoder, self.decoder, self.table = encoder, decoder, table

    def features(self, feat: Tensor) -> Tensor:
        """The features of nodes, learned ones by their numbers."""
        return feat if self.table is None else self.table(feat)

    def forward(self, graph: GraphLike, x: LinkInput, edge: Any = None) -> Tensor:
        feat = self.features(x.feat)
        z = feat if self.encoder is None else self.encoder(graph, feat, edge)
        return self.decode(z, x.src, x.dst, x.relation, x.pair)

    def decode(
        self, z: Tensor, src: Tensor, dst: Tensor, relation: Tensor | None = None, pair: Tensor | None = None
    ) -> Tensor:
        """Scores from embeddings (N, F); the ends are broadcast."""
        options = [value for value in (relation, pair) if value is not None]
        return self.decoder(z[src], z[dst], *options)

    def scores(self, z: Tensor, pairs: Pairs, pair: Tensor | None = None) -> Tensor:
        """Scores of many pairs, some rows at a time; on the CPU."""
        width = max(pairs.src.shape[-1], pairs.dst.shape[-1]) if pairs.src.dim() == 2 else 1
        size = max(1, MAX_ENTRIES // (z.shape[1] * width))
        columns = [pairs.src, pairs.dst, pairs.relation, pair]
        parts = []
        for first in range(0, max(len(pairs.src), len(pairs.dst)), size):
            rows = [None if column is None else column[first : first + size].to(z.device) for column in columns]
            parts.append(self.decode(z, *rows).cpu())  # type: ignore[arg-type]
        return torch.cat(parts) if parts else torch.empty(0)


def pair_features(names: list[str], graph: GraphLike, src: Tensor, dst: Tensor) -> Tensor | None:
    """The neighbourhood scores of pairs as features, (\\*, number of names): log(1 + s), and of PageRank log(1 + N s).

    ``graph`` must not have the links that are to be predicted from them.
    """
    if not names:
        return None
    src, dst = torch.broadcast_tensors(src, dst)
    u, v = src.reshape(-1), dst.reshape(-1)
    columns = []
    for name in names:
        score = SCORES[name](graph, u, v)
        columns.append((score * (graph.num_nodes() if name == "pagerank" else 1)).log1p())
    return torch.stack(columns, 1).view(*src.shape, len(names))


def negatives(kind: str, links: Pairs, data: LinkData, number: int, generator: torch.Generator) -> Pairs:
    """``number`` pairs for each link, which are taken to have none: a few of them do.

    Args:
        kind: "uniform" for both ends, "source" for another second end (of triples, another head or tail), "given" for
            those of the data set
    """
    size = number * len(links.src)
    relation = None if links.relation is None else links.relation.repeat(number)

    def draw(high: int) -> Tensor:
        return torch.randint(high, (size,), generator=generator)

    if kind == "given":
        assert data.train_negatives is not None
        rows = draw(len(data.train_negatives.src))
        return Pairs(data.train_negatives.src[rows], data.train_negatives.dst[rows], relation)
    num_nodes = data.graph.num_nodes()
    if kind == "uniform":
        return Pairs(draw(num_nodes), draw(num_nodes), relation)
    src, dst, random = links.src.repeat(number), links.dst.repeat(number), draw(num_nodes)
    if relation is None:
        return Pairs(src, random)
    tails = draw(2).bool()
    return Pairs(src.where(tails, random), random.where(tails, dst), relation)
