"""Splits for link prediction (Kipf and Welling, 2016): held-out links and as many negative pairs."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from gnnlib._utils.calls import names_checked
from gnnlib.graph import GraphLike, new_graph, takes_graph
from gnnlib.graph._check import check_one_node_set
from gnnlib.nn._arguments import integer, number

__all__ = ["Links", "LinkSplit", "link_split"]


@names_checked()
class Links(NamedTuple):
    """Pairs of nodes u < v, each (n,), and whether they are linked: 1.0 or 0.0."""

    u: Tensor
    v: Tensor
    linked: Tensor


@names_checked()
class LinkSplit(NamedTuple):
    """The graph without the held-out links, and these with as many negative pairs."""

    graph: GraphLike
    val: Links
    test: Links


@names_checked(val_ratio="val=", test_ratio="test=", num_val="val=", num_test="test=")
@takes_graph()
def link_split(graph: GraphLike, seed: int, val: float = 0.05, test: float = 0.1) -> LinkSplit:
    """The split of Kipf and Welling 2016 (arXiv 1611.07308, section 3): 5 % of the links for validation, 10 % for test.

    Links are undirected: both directions are held out together. Negative pairs are different nodes without a link in
    the original graph. No pair is in two parts.

    Args:
        graph: undirected: each edge in both directions; multi-edges count once, self-loops not at all
        seed: of the random generator
        val, test: shares of the links, rounded down

    Returns:
        the graph, simple and in both directions, with the same nodes and their data, and both parts.

    Raises:
        ValueError: if no training links remain, or there are too few pairs without a link.

    Example:
        >>> import torch
        >>> from gnnlib.datasets import link_split
        >>> import dgl
        >>> ring = dgl.to_bidirected(dgl.graph((torch.arange(40), (torch.arange(40) + 1) % 40)))
        >>> split = link_split(ring, seed=0)
        >>> split.graph.num_edges(), len(split.val.u), len(split.test.u), split.test.linked.tolist()
        (68, 4, 8, [1.0, 1.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0])
    """
    check_one_node_set("link_split", graph)
    seed = integer("link_split", "seed", seed, minimum=0)
    val, test = number("link_split", "val", val, 0, 1), number("link_split", "test", test, 0, 1)
    if val + test >= 1:
        raise ValueError(
            f"link_split: expected shares val and test of 0 or more that leave some links, got {val} and {test}"
        )
    u, v = (nodes.long().cpu().numpy() for nodes in graph.edges())
    links = np.unique(_number(np.minimum(u, v), np.maximum(u, v))[u != v])
    sizes = [int(val * len(links)), int(test * len(links))]
    num_negatives = graph.num_nodes() * (graph.num_nodes() - 1) // 2 - len(links)
    if num_negatives < sum(sizes):
        raise ValueError(
            f"link_split: expected {sum(sizes)} pairs of nodes without a link or more, got {num_negatives}"
        )
    rng = np.random.default_rng(seed)
    held_out = np.split(rng.permutation(links), np.cumsum(sizes))
    rank = rng.choice(num_negatives, sum(sizes), replace=False)
    # number of the r-th pair without a link = r + the number of links with at most r such pairs below them
    negatives = np.split(rank + np.searchsorted(links - np.arange(len(links)), rank, side="right"), [sizes[0]])
    remaining = _pair(np.sort(held_out[2]))
    rest = new_graph(torch.cat(remaining), torch.cat(remaining[::-1]), graph.num_nodes())
    for name, value in graph.ndata.items():
        rest.ndata[name] = value
    parts = []
    for positive, negative in zip(held_out, negatives):
        label = torch.cat([torch.ones(len(positive)), torch.zeros(len(negative))])
        parts.append(Links(*_pair(np.concatenate([positive, negative])), label))
    return LinkSplit(rest, *parts)


def _number(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """The consecutive numbers of pairs u < v: (0, 1), (0, 2), (1, 2), (0, 3), ..."""
    return v * (v - 1) // 2 + u


def _pair(number: np.ndarray) -> tuple[Tensor, Tensor]:
    """The pairs with these numbers, for numbers below 2^50."""
    v = ((1 + np.sqrt(1 + 8 * number)) / 2).astype(np.int64)
    return torch.from_numpy(number - v * (v - 1) // 2), torch.from_numpy(v)
