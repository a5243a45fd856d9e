"""Generated graphs on which a label depends on distant nodes, so that a network needs depth. All are seeded."""

from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Any

import networkx as nx
import numpy as np
import torch
from torch import Tensor

from gnnlib.benchmarks.depth.data import NodeData
from gnnlib.graph import add_self_loop, batch, new_graph

__all__ = ["PROPERTIES", "graph_properties", "ring_transfer", "tree_transfer"]

CLASSES = 5
SIZES = {"train": 100, "val": 50, "test": 50}  # graphs of each part
DRAWN = {"train": 300, "val": 100, "test": 100}  # random graphs of each part


def ring_transfer(hops: int) -> NodeData:
    """The class of a node is written at the opposite node of a ring (Bodnar et al. 2021, arXiv 2106.12575, appendix E).

    A network with fewer layers than hops cannot do better than chance, one in five, unless something else joins distant
    nodes: a norm over the nodes of a graph, a virtual node or rewiring. The features are the one-hot class, at the
    source of a ring alone, and a mark at its target. Only the targets are labelled.

    Args:
        hops: from the source to the target; a ring has twice as many nodes
    """
    size = 2 * hops
    ring = torch.arange(size)
    ends = torch.cat([ring, (ring + 1) % size]), torch.cat([(ring + 1) % size, ring])
    return _transfer(ends, size, target=hops, sources=torch.zeros(1, dtype=torch.int64))


def tree_transfer(hops: int) -> NodeData:
    """The class of the root of a binary tree is that of one of its leaves, which is marked (as the task of Alon and
    Yahav 2021, arXiv 2006.05205, section 4.1, with a mark in place of a key).

    The other leaves have other random classes. The root sees 2 ** hops of them through two edges, which squashes what
    they say (over-squashing). A network with fewer layers than hops cannot do better than chance, one in five.

    Args:
        hops: from a leaf to the root; a tree has ``2 ** (hops + 1) - 1`` nodes
    """
    size = 2 ** (hops + 1) - 1
    child = torch.arange(1, size)
    parent = (child - 1) // 2
    ends = torch.cat([child, parent]), torch.cat([parent, child])
    return _transfer(ends, size, target=0, sources=torch.arange(2**hops - 1, size))


def _transfer(ends: tuple[Tensor, Tensor], size: int, target: int, sources: Tensor) -> NodeData:
    """Copies of one graph. Each source has a class, one source is marked, and its class is the target's.

    Features: the one-hot class, a mark of the source that counts, and a mark of the target.
    """
    random = torch.Generator().manual_seed(0)
    count = sum(SIZES.values())
    classes = torch.randint(CLASSES, (count, len(sources)), generator=random)
    answer = torch.arange(count) % CLASSES  # as many of each class
    counts = torch.randint(len(sources), (count,), generator=random)
    classes[torch.arange(count), counts] = answer
    feat = torch.zeros(count, size, CLASSES + 2)
    feat[:, sources, :CLASSES] = torch.nn.functional.one_hot(classes, CLASSES).float()
    feat[torch.arange(count), sources[counts], CLASSES] = 1
    feat[:, target, CLASSES + 1] = 1
    graph = add_self_loop(new_graph(*ends, size))
    label = torch.zeros(count, size, dtype=torch.int64)
    label[:, target] = answer
    part = torch.repeat_interleave(torch.arange(3), torch.tensor(list(SIZES.values())))
    part = part[torch.randperm(count, generator=random)]
    masks = {name: torch.zeros(count, size, dtype=torch.bool) for name in SIZES}
    for i, mask in enumerate(masks.values()):
        mask[:, target] = part == i
    flat = {name: mask.flatten() for name, mask in masks.items()}
    return NodeData(batch([graph] * count), feat.flatten(0, 1), label.flatten(), flat)


# ---------------------------------------------------------------- properties of random graphs


def _distances(graph: nx.Graph, source: int) -> list[float]:
    lengths = nx.single_source_shortest_path_length(graph, source)
    return [float(lengths[v]) for v in range(len(graph))]


def _eccentricity(graph: nx.Graph, source: int) -> list[float]:
    values = nx.eccentricity(graph)
    return [float(values[v]) for v in range(len(graph))]


PROPERTIES: dict[str, Callable[[nx.Graph, int], list[float]]] = {
    "distance": _distances,
    "eccentricity": _eccentricity,
    "diameter": lambda graph, source: [float(nx.diameter(graph))],
}


def graph_properties(name: str, sizes: Mapping[str, int] = DRAWN) -> NodeData:
    """A regression of Corso et al. 2020 (arXiv 2004.05718, section 4.1) on random connected graphs of 25 to 35 nodes.

    - "distance": of each node to the source, whose feature is a mark (single-source shortest paths)
    - "eccentricity": of each node, the distance to the most distant node
    - "diameter": of each graph, the largest eccentricity

    The graphs are random ones, trees, caterpillars, grids, rings, ladders and communities, in equal numbers. Each node
    also has a random number as a feature, as in the paper. The labels are divided by the largest one.

    Args:
        name: of `PROPERTIES`
        sizes: the number of graphs of each part
    """
    random = np.random.RandomState(0)
    kinds = list(_KINDS.values())
    graphs, feats, labels = [], [], []
    for i in range(sum(sizes.values())):
        drawn = _connected(kinds[i % len(kinds)](random.randint(25, 36), random), random)
        source = random.randint(len(drawn))
        feat = torch.from_numpy(np.stack([random.rand(len(drawn)), np.arange(len(drawn)) == source], 1)).float()
        ends = torch.tensor(list(drawn.edges()), dtype=torch.int64).T
        graphs.append(
            add_self_loop(new_graph(torch.cat([ends[0], ends[1]]), torch.cat([ends[1], ends[0]]), len(drawn)))
        )
        feats.append(feat)
        labels.append(torch.tensor(PROPERTIES[name](drawn, source)))
    part = np.repeat(np.arange(3), list(sizes.values()))[random.permutation(len(graphs))]
    repeats = torch.tensor([len(label) for label in labels])
    rows = torch.from_numpy(part).repeat_interleave(repeats)
    label = torch.cat(labels)
    masks = {name: rows == i for i, name in enumerate(sizes)}
    per_graph = name == "diameter"
    return NodeData(batch(graphs), torch.cat(feats), (label / label.max()).unsqueeze(1), masks, "r2", per_graph)


def _connected(graph: nx.Graph, random: np.random.RandomState) -> nx.Graph:
    """The graph with random edges between its components, nodes numbered from 0 in a random order."""
    parts = [sorted(part) for part in nx.connected_components(graph)]
    for one, other in pairwise(parts):
        graph.add_edge(one[random.randint(len(one))], other[random.randint(len(other))])
    nodes = sorted(graph)
    return nx.relabel_nodes(graph, dict(zip(nodes, random.permutation(len(nodes)).tolist(), strict=True)))


def _caterpillar(size: int, random: np.random.RandomState) -> nx.Graph:
    """A path of half the nodes, with the other half joined to it at random."""
    graph, half = nx.path_graph(size // 2), size // 2
    graph.add_edges_from((v, random.randint(half)) for v in range(half, size))
    return graph


def _communities(size: int, random: np.random.RandomState) -> nx.Graph:
    return nx.relaxed_caveman_graph(5, size // 5, 0.1, seed=random)


def _grid(size: int, random: np.random.RandomState) -> nx.Graph:
    rows = random.randint(2, 6)
    return nx.convert_node_labels_to_integers(nx.grid_2d_graph(rows, size // rows))


def _tree(size: int, random: np.random.RandomState) -> nx.Graph:
    """Each node is joined to a random one before it."""
    graph: Any = nx.empty_graph(size)
    graph.add_edges_from((v, random.randint(v)) for v in range(1, size))
    return graph


_KINDS: dict[str, Callable[[int, np.random.RandomState], nx.Graph]] = {
    "random": lambda size, random: nx.gnp_random_graph(size, random.uniform(0.05, 0.2), seed=random),
    "attachment": lambda size, random: nx.barabasi_albert_graph(size, random.randint(1, 4), seed=random),
    "tree": _tree,
    "caterpillar": _caterpillar,
    "grid": _grid,
    "ring": lambda size, random: nx.cycle_graph(size),
    "ladder": lambda size, random: nx.ladder_graph(size // 2),
    "communities": _communities,
}
