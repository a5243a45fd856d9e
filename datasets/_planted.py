"""A stochastic block model as large as ogbn-arxiv: generated, so that it needs no download."""

import numpy as np
import torch
from torch import Tensor

from gnnlib._utils.calls import names_checked
from gnnlib.graph import GraphLike, new_graph
from gnnlib.nn._arguments import integer

__all__ = ["planted"]

CLASSES, FEATURES = 40, 128
SPLIT = {"train": 0.54, "valid": 0.18, "test": 0.28}
INSIDE = 0.6  # share of links within a community
SIGNAL = 0.2  # standard deviation of an entry of a community's mean; that of the noise is 1


@names_checked()
def planted(num_nodes: int = 169_343, seed: int = 0) -> tuple[GraphLike, dict[str, Tensor]]:
    """A degree-corrected stochastic block model (Karrer and Newman 2011, arXiv 1008.3926) with noisy features.

    There are about 6.85 links per node. One endpoint is sampled from a power law of popularity; the other uniformly,
    with probability 0.6 from the same community, else from all nodes. Features are the community's mean plus noise, too
    much of it to classify a node without its neighbours.

    Args:
        num_nodes: 80 or more; the default is the number of ogbn-arxiv
        seed: of the random generator

    Returns:
        the graph and its split

        - graph: each link in both directions, once, no self-loops; ndata ``feat`` (N, 128), float32, and ``label``
          (N,), int64: 40 communities.
        - split: ids of the nodes in ``"train"``, ``"valid"`` and ``"test"``, int64, random, in ogbn-arxiv's
          proportions.

    Raises:
        ValueError: if there are fewer than 80 nodes.

    Example:
        >>> from gnnlib.datasets import planted
        >>> graph, split = planted(1000)
        >>> graph.ndata["feat"].shape, {part: len(ids) for part, ids in split.items()}
        (torch.Size([1000, 128]), {'train': 540, 'valid': 180, 'test': 280})
    """
    num_nodes, seed = integer("planted", "num_nodes", num_nodes), integer("planted", "seed", seed, minimum=0)
    if num_nodes < 2 * CLASSES:
        raise ValueError(f"planted: expected {2 * CLASSES} nodes or more, two for each community, got {num_nodes}")
    rng = np.random.default_rng(seed)
    label = np.sort(np.concatenate([np.arange(CLASSES), rng.integers(0, CLASSES, num_nodes - CLASSES)]))
    src, dst = _links(label, rng)
    number = rng.permutation(num_nodes)  # so that ids carry no information
    label = label[np.argsort(number)]
    graph = new_graph(number[src], number[dst], num_nodes)
    del src, dst
    means = SIGNAL * rng.standard_normal((CLASSES, FEATURES), np.float32)
    feat = rng.standard_normal((num_nodes, FEATURES), np.float32)
    for community, mean in enumerate(means):
        feat[label == community] += mean
    graph.ndata["feat"], graph.ndata["label"] = torch.from_numpy(feat), torch.from_numpy(label)
    return graph, _split(num_nodes, rng)


def _links(label: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Both directions of each link, sorted. Nodes are numbered by community."""
    num_nodes, starts = len(label), np.searchsorted(label, np.arange(CLASSES + 1))
    share = rng.permutation((np.arange(num_nodes) + 10.0) ** -0.7)
    first = rng.choice(num_nodes, round(6.85 * num_nodes), p=share / share.sum())
    home = label[first]
    near = starts[home] + (rng.random(len(first)) * np.diff(starts)[home]).astype(np.int64)
    other = np.where(rng.random(len(first)) < INSIDE, near, rng.integers(0, num_nodes, len(first)))
    codes = np.concatenate([first * num_nodes + other, other * num_nodes + first])
    src, dst = np.divmod(np.unique(codes), num_nodes)
    return src[src != dst], dst[src != dst]


def _split(num_nodes: int, rng: np.random.Generator) -> dict[str, Tensor]:
    sizes = [round(share * num_nodes) for share in SPLIT.values()]
    parts = torch.from_numpy(rng.permutation(num_nodes)).split([sizes[0], sizes[1], num_nodes - sum(sizes[:2])])
    return dict(zip(SPLIT, parts, strict=True))
