"""Links held out of a graph, with as many pairs of nodes that are not linked."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from gnnlib._platform.dgl import dgl

__all__ = ["Links", "LinkSplit", "link_split"]


class Links(NamedTuple):
    """Pairs of nodes u < v, each (n,), and whether they are linked: 1.0 or 0.0."""

    u: Tensor
    v: Tensor
    linked: Tensor


class LinkSplit(NamedTuple):
    """The graph without the links held out, and these with as many non-links."""

    graph: dgl.DGLGraph
    val: Links
    test: Links


def link_split(graph: dgl.DGLGraph, seed: int, val: float = 0.05, test: float = 0.1) -> LinkSplit:
    """Links held out as by Kipf and Welling 2016 (arXiv 1611.07308, section 3): 5 % for validation, 10 % for the test.

    Links are undirected: both directions of one are held out together. Non-links are pairs of different nodes without a
    link in the whole graph. No pair is in two parts.

    Args:
        graph: undirected: each edge in both directions; multi-edges count once, self-loops not at all
        seed: what is drawn depends on it and on the graph alone
        val, test: shares of the links, rounded down

    Returns:
        the graph, simple and in both directions, with the same nodes and their data, and both parts.

    Raises:
        ValueError: shares that leave nothing to train on, or too few pairs without a link.

    >>> ring = dgl.to_bidirected(dgl.graph((torch.arange(40), (torch.arange(40) + 1) % 40)))
    >>> split = link_split(ring, seed=0)
    >>> split.graph.num_edges(), len(split.val.u), len(split.test.u), split.test.linked.tolist()
    (68, 4, 8, [1.0, 1.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0])
    """
    if not (val >= 0 and test >= 0 and val + test < 1):
        raise ValueError(f"expected shares of 0 or more that leave some links, received val={val}, test={test}")
    u, v = (end.long().cpu().numpy() for end in graph.edges())
    links = np.unique(_number(np.minimum(u, v), np.maximum(u, v))[u != v])
    sizes = [int(val * len(links)), int(test * len(links))]
    num_others = graph.num_nodes() * (graph.num_nodes() - 1) // 2 - len(links)
    if num_others < sum(sizes):
        raise ValueError(f"expected {sum(sizes)} pairs of nodes without a link or more, received {num_others}")
    rng = np.random.default_rng(seed)
    held = np.split(rng.permutation(links), np.cumsum(sizes))
    rank = rng.choice(num_others, sum(sizes), replace=False)
    # the r-th of the numbers that are no link's comes after as many links as have r or fewer of them below
    others = np.split(rank + np.searchsorted(links - np.arange(len(links)), rank, side="right"), [sizes[0]])
    left = _pair(np.sort(held[2]))
    rest = dgl.graph((torch.cat(left), torch.cat(left[::-1])), num_nodes=graph.num_nodes())
    for name, value in graph.ndata.items():
        rest.ndata[name] = value
    parts = []
    for linked, not_linked in zip(held, others):
        label = torch.cat([torch.ones(len(linked)), torch.zeros(len(not_linked))])
        parts.append(Links(*_pair(np.concatenate([linked, not_linked])), label))
    return LinkSplit(rest, *parts)


def _number(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Pairs u < v counted without a gap: (0, 1), (0, 2), (1, 2), (0, 3), ..."""
    return v * (v - 1) // 2 + u


def _pair(number: np.ndarray) -> tuple[Tensor, Tensor]:
    """The pairs with these numbers, which are below 2^50."""
    v = ((1 + np.sqrt(1 + 8 * number)) / 2).astype(np.int64)
    return torch.from_numpy(number - v * (v - 1) // 2), torch.from_numpy(v)
