"""Links to train on, and candidates to rank: of Kipf and Welling's splits, and of the Open Graph Benchmark's."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from gnnlib import datasets
from gnnlib.datasets._ogb_links import node_numbers
from gnnlib.graph import GraphLike, new_graph, to_bidirected

__all__ = ["Candidates", "LinkData", "Pairs", "of_link_split", "of_ogb"]


class Pairs(NamedTuple):
    """Both ends of links, (n,), and the relation of each in a knowledge graph."""

    src: Tensor
    dst: Tensor
    relation: Tensor | None = None


class Candidates(NamedTuple):
    """Links and the pairs without a link among which they are ranked.

    Args:
        links: (n,)
        src, dst: ends of the pairs: (m,), the same for all links; or, for each link, (n, K) and (n, 1)
    """

    links: Pairs
    src: Tensor
    dst: Tensor

    def pairs(self) -> Pairs:
        """The pairs without a link; with relations, of the shape (n, 1)."""
        relation = self.links.relation
        return Pairs(self.src, self.dst, None if relation is None else relation[:, None])


class LinkData(NamedTuple):
    """The data of a seed.

    Args:
        graph: the training links in both directions, each once
        test_graph: those whose messages the network has in the test
        feat: of the nodes, (N, F); None where there are none
        train: links to train on
        valid, test: candidates; in a knowledge graph those with other tails, and those with other heads
        metric: of scores of links and of pairs without a link, at best 1
        train_negatives: pairs without a link that the data set has for the training
        num_relations: 0 without relations
    """

    graph: GraphLike
    test_graph: GraphLike
    feat: Tensor | None
    train: Pairs
    valid: list[Candidates]
    test: list[Candidates]
    metric: Callable[[Tensor, Tensor], float]
    train_negatives: Pairs | None = None
    num_relations: int = 0


def of_link_split(graph: GraphLike, seed: int, metric: str) -> LinkData:
    """The split of Kipf and Welling 2016 (arXiv 1611.07308, section 3), drawn for each seed."""
    split = datasets.link_split(graph, seed)
    src, dst = (end.long() for end in split.graph.edges())
    forward = src < dst
    parts = []
    for part in (split.val, split.test):
        linked = part.linked.bool()
        parts.append([Candidates(Pairs(part.u[linked], part.v[linked]), part.u[~linked], part.v[~linked])])
    feat, train = graph.ndata["feat"], Pairs(src[forward], dst[forward])
    return LinkData(split.graph, split.graph, feat, train, parts[0], parts[1], datasets.LinkMetric(metric))


def of_ogb(name: str, data: Any = None, *, validation_links: bool = False) -> LinkData:
    """A data set of the Open Graph Benchmark.

    Args:
        name: such as "ogbl-collab"
        data: as for `gnnlib.datasets.ogb_links`
        validation_links: whether the links of the validation part carry messages in the test
    """
    dataset, split, metric = datasets.ogb_links(name, data)
    graph = dataset[0]
    parts = {part: _pairs(tables, graph) for part, tables in split.items()}
    links = messages = parts["train"]
    if validation_links:
        messages = Pairs(*(torch.cat(ends) for ends in zip(links[:2], parts["valid"][:2], strict=True)))
    if links.relation is None:
        links = Pairs(*torch.stack(links[:2], 1).unique(dim=0).unbind(1))  # collaborations of several years
    num_nodes, edge_neg = graph.num_nodes(), split["train"].get("edge_neg")
    valid, test = (
        [_candidates(split[part], parts[part], graph, end) for end in _ends(split[part])] for part in ("valid", "test")
    )
    return LinkData(
        to_bidirected(new_graph(links.src, links.dst, num_nodes)),
        to_bidirected(new_graph(messages.src, messages.dst, num_nodes)),
        _features(graph),
        links,
        valid,
        test,
        metric,
        None if edge_neg is None else Pairs(*edge_neg.unbind(1)),
        1 + max(-1 if part.relation is None else int(part.relation.max()) for part in parts.values()),
    )


def _pairs(tables: dict[str, Any], graph: GraphLike) -> Pairs:
    if "edge" in tables:
        return Pairs(*tables["edge"].unbind(1))
    if "source_node" in tables:
        return Pairs(tables["source_node"], tables["target_node"])
    head, tail = (node_numbers(graph, tables[end], tables.get(f"{end}_type")) for end in ("head", "tail"))
    return Pairs(head, tail, tables["relation"].long().flatten())


def _ends(tables: dict[str, Any]) -> list[str]:
    """The tables of pairs without a link."""
    return sorted((key for key in tables if key.endswith("_neg")), reverse=True)


def _candidates(tables: dict[str, Any], links: Pairs, graph: GraphLike, key: str) -> Candidates:
    if key == "edge_neg":
        return Candidates(links, *tables[key].unbind(1))
    candidates = node_numbers(graph, tables[key], tables.get(f"{key.removesuffix('_neg')}_type"))
    if key == "head_neg":
        return Candidates(links, candidates, links.dst[:, None])
    return Candidates(links, links.src[:, None], candidates)


def _features(graph: GraphLike) -> Tensor | None:
    """The features of the nodes; columns of large numbers, positions in ogbl-vessel, with mean 0 and deviation 1."""
    if len(graph.ntypes) > 1 or "feat" not in graph.ndata:
        return None
    feat = graph.ndata["feat"].float()
    large = feat.abs().amax(0) > 100
    mean, std = feat.mean(0), feat.std(0, correction=0).clamp(min=1e-6)
    return torch.where(large, (feat - mean) / std, feat)
