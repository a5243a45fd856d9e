"""The graphs of Knyazev's tutorial on pixels: an adjacency that is fixed, and all pairs for one that is predicted."""

import math
from collections.abc import Sequence

import numpy as np

from gnnlib.graph import GraphLike, new_graph
from gnnlib.images import KNYAZEV, Decay, gaussian_graph, pixel_graph
from gnnlib.ops import aggregate, gather_dst, gather_src
from gnnlib.ops.degrees import NORMS

SIGMA = 0.05 * math.pi  # where the image is 1 wide
CUTOFF = 0.01
EPSILON = 1e-5


def adjacency(shape: Sequence[int], decay: Decay = KNYAZEV, norm: str = "both", less: float = 0.0) -> GraphLike:
    r"""The pixels of an image, joined by a weight that falls off with distance, ``edata["weight"]``.

    .. math:: A_{vu} = a(\|p_u - p_v\|) \text{ where at least } 0.01, \qquad
        \hat A_{vu} = (D_u + \epsilon)^p A_{vu} (D_v + \epsilon)^q - \text{less}

    with positions in units of the image's width, sigma = 0.05 pi, D the row sums and epsilon = 1e-5. ``norm`` says p
    and q, as in :func:`gnnlib.degree_norm`: "both" is Kipf's, "right" A / row sum, "none" A. The tutorial takes 0.2
    off each entry above 0.0001, which are all of its entries: the smallest is 0.003.

    Edges are sorted by destination, then by source. float64, as the tutorial's numpy has it.

    >>> from gnnlib.benchmarks.tasks.filters import adjacency, all_pairs
    >>> graph = adjacency((28, 28), less=0.2)
    >>> row = graph.edata["weight"][graph.in_edges(14 * 28 + 14, form="eid")]
    >>> len(row), [round(x, 2) for x in (row.max().item(), row.topk(2).values[1].item(), row.min().item())]
    (37, [0.11, -0.13, -0.2])
    >>> round(row.sum().item(), 2)
    -6.4
    """
    graph = gaussian_graph(pixel_graph(shape).ndata["pos"].double() / max(shape), SIGMA, CUTOFF, decay=decay)
    weight = graph.edata["weight"]
    degree = aggregate(graph, weight.new_ones(graph.num_nodes(), 1), weight) + EPSILON
    for gather, power in zip((gather_src, gather_dst), NORMS[norm]):
        weight = weight * gather(graph, degree**power).squeeze(1)
    graph.edata["weight"] = weight - less
    return graph


def all_pairs(shape: Sequence[int]) -> GraphLike:
    """An edge from every pixel to every pixel; ``ndata["pos"]`` has mean 0 and deviation 1 along each axis.

    Edges are sorted by destination, then by source, so (N^2,) values ``.view(N, N)`` are a matrix.

    >>> from gnnlib.benchmarks.tasks.filters import adjacency, all_pairs
    >>> graph = all_pairs((28, 28))
    >>> graph.num_edges(), graph.ndata["pos"].std(0, correction=0).tolist()
    (614656, [1.0, 1.0])
    """
    pos = pixel_graph(shape).ndata["pos"]
    dst, src = np.indices((len(pos), len(pos))).reshape(2, -1)
    graph = new_graph(src, dst)
    graph.ndata["pos"] = (pos - pos.mean(0)) / pos.std(0, correction=0)
    return graph
