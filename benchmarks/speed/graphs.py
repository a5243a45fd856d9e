"""The graphs of the workloads: a large power-law graph, regular graphs, many small graphs, all pairs of pixels."""

from typing import NamedTuple

import numpy as np
import torch
from scipy.spatial import cKDTree
from torch import Tensor

from gnnlib.graph import GraphLike, new_graph
from gnnlib.images import pixel_graph

NUM_NODES, NUM_LINKS = 169_343, 1_160_000  # the size of ogbn-arxiv


def power_law_graph(num_nodes: int = NUM_NODES, num_links: int = NUM_LINKS, seed: int = 0) -> GraphLike:
    """Edges to popular nodes, their reverses, and self-loops: 2489343 edges by default."""
    rng = np.random.default_rng(seed)
    share = (np.arange(num_nodes) + 10.0) ** -0.7
    popular = rng.permutation(num_nodes)[rng.choice(num_nodes, num_links, p=share / share.sum())]
    uniform, nodes = rng.integers(0, num_nodes, num_links), np.arange(num_nodes)
    src, dst = np.concatenate([popular, uniform, nodes]), np.concatenate([uniform, popular, nodes])
    return new_graph(src, dst, num_nodes)


def regular_graph(num_nodes: int, degree: int, seed: int = 0) -> GraphLike:
    """Each node has ``degree`` in-edges, from random nodes."""
    rng = np.random.default_rng(seed)
    return new_graph(rng.integers(0, num_nodes, num_nodes * degree), np.repeat(np.arange(num_nodes), degree))


def all_pairs(side: int) -> GraphLike:
    """The complete graph of a square image's pixels, with the positions of `pixel_graph`."""
    num_nodes = side * side
    graph = new_graph(np.tile(np.arange(num_nodes), num_nodes), np.repeat(np.arange(num_nodes), num_nodes))
    graph.ndata["pos"] = pixel_graph((side, side)).ndata["pos"]
    return graph


class Small(NamedTuple):
    """Many small graphs with labels; node features "feat", and edge features "feat" in some data sets."""

    graphs: list[GraphLike]
    labels: Tensor


def superpixel_graphs(count: int, classes: int, seed: int = 0) -> Small:
    """Graphs like those of superpixels: 75 points in the unit square, each with in-edges from its 8 nearest.

    Node features are random colours and the position (5); edge features are the relative position (2).
    """
    rng = np.random.default_rng(seed)
    graphs = []
    for _ in range(count):
        pos = rng.random((75, 2))
        nearest = cKDTree(pos).query(pos, 9)[1][:, 1:]
        src, dst = nearest.ravel(), np.repeat(np.arange(75), 8)
        graph = new_graph(src, dst, 75)
        graph.ndata["feat"] = _floats(np.concatenate([rng.random((75, 3)), pos], 1))
        graph.edata["feat"] = _floats(pos[src] - pos[dst])
        graphs.append(graph)
    return Small(graphs, torch.from_numpy(rng.integers(0, classes, count)))


def pixel_graphs(count: int, classes: int, side: int, seed: int = 0) -> Small:
    """Grey images: each pixel has in-edges from its 3 x 3 window; the node feature is the brightness (1)."""
    rng = np.random.default_rng(seed)
    graphs = [pixel_graph((side, side)) for _ in range(count)]
    for graph in graphs:
        del graph.ndata["pos"], graph.edata["tap"]  # other loaders would not batch them
        graph.ndata["feat"] = _floats(rng.random((side * side, 1)))
    return Small(graphs, torch.from_numpy(rng.integers(0, classes, count)))


def _floats(values: np.ndarray) -> Tensor:
    return torch.from_numpy(values.astype(np.float32))
