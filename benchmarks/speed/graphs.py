"""What is computed on: one large power-law graph, one with edge features, many small ones, all pairs of pixels."""

from typing import NamedTuple

import numpy as np
import torch
from scipy.spatial import cKDTree
from torch import Tensor

from gnnlib._platform.dgl import dgl
from gnnlib.images import pixel_graph

NUM_NODES, NUM_LINKS = 169_343, 1_160_000  # the size of ogbn-arxiv


def power_law_graph(num_nodes: int = NUM_NODES, num_links: int = NUM_LINKS, seed: int = 0) -> dgl.DGLGraph:
    """Links to popular nodes, their reverses, and self-loops: 2489343 edges by default."""
    rng = np.random.default_rng(seed)
    share = (np.arange(num_nodes) + 10.0) ** -0.7
    popular = rng.permutation(num_nodes)[rng.choice(num_nodes, num_links, p=share / share.sum())]
    other, every = rng.integers(0, num_nodes, num_links), np.arange(num_nodes)
    src, dst = np.concatenate([popular, other, every]), np.concatenate([other, popular, every])
    return dgl.graph((src, dst), num_nodes=num_nodes)


def regular_graph(num_nodes: int, degree: int, seed: int = 0) -> dgl.DGLGraph:
    """Every node receives from ``degree`` others, drawn at random."""
    rng = np.random.default_rng(seed)
    return dgl.graph((rng.integers(0, num_nodes, num_nodes * degree), np.repeat(np.arange(num_nodes), degree)))


def all_pairs(side: int) -> dgl.DGLGraph:
    """Every pixel of a square image to every pixel, with the positions of `pixel_graph`."""
    num_nodes = side * side
    graph = dgl.graph((np.tile(np.arange(num_nodes), num_nodes), np.repeat(np.arange(num_nodes), num_nodes)))
    graph.ndata["pos"] = pixel_graph((side, side)).ndata["pos"]
    return graph


class Small(NamedTuple):
    """Many small graphs, with "feat" on their nodes, some on their edges, and a label for each."""

    graphs: list[dgl.DGLGraph]
    labels: Tensor


def superpixel_graphs(count: int, classes: int, seed: int = 0) -> Small:
    """As superpixels are: 75 places in a unit square, each receiving from its 8 nearest.

    Node features: mean colour and position (5); edge features: the relative position (2).
    """
    rng = np.random.default_rng(seed)
    graphs = []
    for _ in range(count):
        place = rng.random((75, 2))
        nearest = cKDTree(place).query(place, 9)[1][:, 1:]
        src, dst = nearest.ravel(), np.repeat(np.arange(75), 8)
        graph = dgl.graph((src, dst), num_nodes=75)
        graph.ndata["feat"] = _floats(np.concatenate([rng.random((75, 3)), place], 1))
        graph.edata["feat"] = _floats(place[src] - place[dst])
        graphs.append(graph)
    return Small(graphs, torch.from_numpy(rng.integers(0, classes, count)))


def pixel_graphs(count: int, classes: int, side: int, seed: int = 0) -> Small:
    """Grey images, each pixel receiving from its 3 x 3 window. Node feature: brightness (1)."""
    rng = np.random.default_rng(seed)
    graphs = [pixel_graph((side, side)) for _ in range(count)]
    for graph in graphs:
        del graph.ndata["pos"], graph.edata["tap"]  # the others would not carry them along
        graph.ndata["feat"] = _floats(rng.random((side * side, 1)))
    return Small(graphs, torch.from_numpy(rng.integers(0, classes, count)))


def _floats(values: np.ndarray) -> Tensor:
    return torch.from_numpy(values.astype(np.float32))
