"""How much of a graph is in one step of learning links: all of it but the targets, or sampled neighbours of their ends.

The targets of a step carry no messages in it, in neither direction.
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

from gnnlib._platform.dgl import check_dgl, dgl
from gnnlib._utils.model_state import evaluation_mode
from gnnlib.benchmarks.tasks.link_data import LinkData, Pairs
from gnnlib.benchmarks.tasks.link_model import LinkInput, LinkPredictor, pair_features
from gnnlib.graph import EID, GraphLike, add_self_loop, as_dgl, remove_links
from gnnlib.large.inference import layerwise_inference
from gnnlib.large.sampling import gcn_edge_weights, quiet
from gnnlib.train.distributed import rank, shard, world_size
from gnnlib.train.loop import Batch

__all__ = ["FullLinks", "LinkMode", "NodesAlone", "SampledLinks"]

SHARE = 8  # at most an eighth of the links are the targets of a step, so that messages remain
Draw = Callable[[Pairs], Pairs]  # from links to pairs without a link


class FullLinks(NamedTuple):
    """All nodes, and all training links but the targets."""

    data: LinkData
    scores: list[str]
    batch_size: int
    device: str

    def feat(self) -> Tensor:
        """Features, or the numbers of the nodes."""
        feat = torch.arange(self.data.graph.num_nodes()) if self.data.feat is None else self.data.feat
        return feat.to(self.device)

    def steps(self, generator: torch.Generator) -> Iterator[Pairs]:
        """The targets of each step of an epoch, in random order."""
        train = self.data.train
        number = len(train.src)
        size = max(1, min(self.batch_size, -(-number // SHARE)))
        for rows in torch.randperm(number, generator=generator).split(size):
            yield Pairs(*(None if column is None else column[rows] for column in train))  # type: ignore[arg-type]

    def pairs(self, links: Pairs, negatives: Pairs) -> tuple[Pairs, Tensor]:
        """This process's shard of the links and of the pairs without a link, and whether they are linked."""
        columns = [None if a is None or b is None else torch.cat([a, b]) for a, b in zip(links, negatives, strict=True)]
        target = torch.cat([torch.ones(len(links.src)), torch.zeros(len(negatives.src))])
        rows = shard(torch.arange(len(target)))
        return Pairs(*(None if c is None else c[rows] for c in columns)), target[rows]  # type: ignore[arg-type]

    def batches(self, draw: Draw, generator: torch.Generator) -> Iterator[Batch]:
        """One epoch."""
        feat = self.feat()
        for links in self.steps(generator):
            rest = remove_links(self.data.graph, links.src, links.dst)
            pairs, target = self.pairs(links, draw(links))
            features = pair_features(self.scores, rest, pairs.src, pairs.dst)
            x = LinkInput(feat, *_to(self.device, *pairs, features))
            yield Batch(add_self_loop(rest), x, target.to(self.device))

    @torch.no_grad()
    def embed(self, model: LinkPredictor, graph: GraphLike) -> Tensor:
        """The embeddings of all nodes (N, F), by a trained model."""
        assert model.encoder is not None
        with evaluation_mode(model):
            return model.encoder(add_self_loop(graph), model.features(self.feat()), None)


class NodesAlone(FullLinks):
    """The nodes of the pairs, without a graph: for learned features alone."""

    def batches(self, draw: Draw, generator: torch.Generator) -> Iterator[Batch]:
        for links in self.steps(generator):
            pairs, target = self.pairs(links, draw(links))
            nodes, ends = torch.cat(pairs[:2]).unique(return_inverse=True)
            features = None
            if self.scores:
                rest = remove_links(self.data.graph, links.src, links.dst)
                features = pair_features(self.scores, rest, pairs.src, pairs.dst)
            x = LinkInput(*_to(self.device, nodes, *ends.view(2, -1), pairs.relation, features))
            yield Batch(None, x, target.to(self.device))

    @torch.no_grad()
    def embed(self, model: LinkPredictor, graph: GraphLike) -> Tensor:
        return model.features(self.feat())


class SampledLinks(NamedTuple):
    """Sampled neighbours of the ends of some links, and of theirs, by DGL's ``as_edge_prediction_sampler``.

    Weights of GCN (`gcn_edge_weights`) are those of all training links.
    """

    full: FullLinks
    fanouts: tuple[int, ...]
    weighted: bool  # whether the layer takes the weights of GCN

    def batches(self, draw: Draw, generator: torch.Generator) -> Iterator[Batch]:
        check_dgl("--mode sampled")
        full, data = self.full, self.full.data
        graph: Any = as_dgl(add_self_loop(data.graph)).long()
        weight = gcn_edge_weights(graph) if self.weighted else None
        num_links = data.graph.num_edges()
        src, dst = graph.edges(order="eid")
        find = _edge_finder(src[:num_links], dst[:num_links], graph.num_nodes())
        reverse = torch.arange(graph.num_edges())  # the self-loops are behind the links
        reverse[:num_links] = find(dst[:num_links], src[:num_links])
        edges = find(data.train.src, data.train.dst)
        order = edges[torch.randperm(len(edges), generator=generator)]
        order = order[: len(order) - len(order) % world_size()]  # so that all processes have the same number of batches
        dgl.seed(int(torch.randint(2**31 - 2**16, (), generator=generator)) + rank())

        def other_pairs(graph: Any, eids: Tensor) -> tuple[Tensor, Tensor]:
            return draw(Pairs(src[eids], dst[eids]))[:2]

        sampler = dgl.dataloading.as_edge_prediction_sampler(
            dgl.dataloading.NeighborSampler(list(self.fanouts)),
            exclude="reverse_id",
            reverse_eids=reverse,
            negative_sampler=other_pairs,
        )
        size = max(1, full.batch_size // world_size())
        with quiet():
            minibatches = iter(dgl.dataloading.DataLoader(graph, shard(order), sampler, batch_size=size))
        feat = full.feat()
        for inputs, positive, negative, blocks in minibatches:
            ends = [torch.cat(both) for both in zip(positive.edges(), negative.edges(), strict=True)]
            target = torch.cat([torch.ones(positive.num_edges()), torch.zeros(negative.num_edges())])
            features = None
            if full.scores:
                nodes = blocks[-1].dstdata[dgl.NID]
                rest = remove_links(data.graph, *(nodes[end] for end in positive.edges()))
                features = pair_features(full.scores, rest, *(nodes[end] for end in ends))
            edge = None if weight is None else [weight[block.edata[EID]].to(full.device) for block in blocks]
            x = LinkInput(feat[inputs.to(feat.device)], *_to(full.device, *ends, None, features))
            yield Batch(blocks, x, target.to(full.device), edge)

    @torch.no_grad()
    def embed(self, model: LinkPredictor, graph: GraphLike) -> Tensor:
        """The embeddings of all nodes (N, F), a layer at a time."""
        assert model.encoder is not None
        graph = add_self_loop(graph)
        edge = gcn_edge_weights(graph) if self.weighted else None
        feat = model.features(self.full.feat()).cpu()
        options = {"batch_size": 2048, "edge": edge, "device": self.full.device}
        return layerwise_inference(model.encoder, graph, feat, **options).to(self.full.device)  # type: ignore[arg-type,union-attr]


LinkMode = FullLinks | SampledLinks


def _edge_finder(src: Tensor, dst: Tensor, num_nodes: int) -> Callable[[Tensor, Tensor], Tensor]:
    """A function from the ends of edges of a simple graph to their numbers."""
    code, eid = (src * num_nodes + dst).sort()
    return lambda u, v: eid[torch.searchsorted(code, u * num_nodes + v)]


def _to(device: str, *tensors: Tensor | None) -> tuple[Tensor, ...]:
    return tuple(None if tensor is None else tensor.to(device) for tensor in tensors)  # type: ignore[misc]
