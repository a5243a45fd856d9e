"""What a rewiring does to degrees, curvature and the spectral gap."""

from dataclasses import dataclass, fields

import numpy as np

from gnnlib._utils.calls import names_checked
from gnnlib.analysis.smoothing.base import check_graph, simple_adjacency
from gnnlib.analysis.squashing import balanced_forman_curvature, spectral_gap
from gnnlib.graph import GraphLike, takes_graph

__all__ = ["GraphStatistics", "RewiringEffect", "graph_statistics", "rewiring_effect"]


@names_checked()
@dataclass(frozen=True)
class GraphStatistics:
    """The result of `graph_statistics`. Directions, self-loops and parallel edges do not count."""

    nodes: int
    edges: int
    mean_degree: float
    max_degree: int
    min_curvature: float  # balanced Forman; nan without edges
    mean_curvature: float
    spectral_gap: float  # the mean over the graphs of a batch


@names_checked()
@takes_graph()
def graph_statistics(graph: GraphLike) -> GraphStatistics:
    """Degrees, curvature and spectral gap of a graph: of its simple graph without directions.

    Args:
        graph: a whole graph or a batch

    Returns:
        the statistics

    Raises:
        ValueError: for a graph with two node sets

    Example:
        >>> from gnnlib.rewiring import graph_statistics
        >>> import dgl
        >>> square = dgl.to_bidirected(dgl.graph(([0, 1, 2, 3], [1, 2, 3, 0])))
        >>> statistics = graph_statistics(square)
        >>> statistics.edges, statistics.mean_degree, statistics.min_curvature
        (4, 2.0, 1.0)
    """
    check_graph(graph)
    matrix = simple_adjacency(graph)
    degree = np.asarray(matrix.sum(1)).ravel()
    curvature = balanced_forman_curvature(graph)
    curvature = curvature[~curvature.isnan()]
    empty = not len(curvature)
    return GraphStatistics(
        graph.num_nodes(),
        matrix.nnz // 2,
        float(degree.mean()) if len(degree) else 0.0,
        int(degree.max(initial=0)),
        np.nan if empty else float(curvature.min()),
        np.nan if empty else float(curvature.mean()),
        float(spectral_gap(graph).nanmean()),
    )


@names_checked()
@dataclass(frozen=True)
class RewiringEffect:
    """The result of `rewiring_effect`; ``print`` shows a table."""

    before: GraphStatistics
    after: GraphStatistics

    def __str__(self) -> str:
        lines = [f"{'':14}{'before':>10}{'after':>10}"]
        for name in (field.name for field in fields(GraphStatistics)):
            values = (getattr(statistics, name) for statistics in (self.before, self.after))
            lines.append(f"{name:14}" + "".join(f"{value:>10.4g}" for value in values))
        return "\n".join(lines)


@names_checked()
@takes_graph()
def rewiring_effect(graph: GraphLike, rewired: GraphLike) -> RewiringEffect:
    """What a rewiring does to the degrees, the curvature and the spectral gap of a graph.

    Args:
        graph: the graph
        rewired: the graph after the rewiring

    Returns:
        the `graph_statistics` of both

    Raises:
        ValueError: for a graph with two node sets

    Example:
        >>> from gnnlib.rewiring import add_k_hop_edges, rewiring_effect
        >>> import dgl
        >>> path = dgl.to_bidirected(dgl.graph(([0, 1, 2, 3], [1, 2, 3, 4])))
        >>> print(rewiring_effect(path, add_k_hop_edges(path, 2)))
                          before     after
        nodes                  5         5
        edges                  4         7
        mean_degree          1.6       2.8
        max_degree             2         4
        min_curvature          0    0.3333
        mean_curvature         0    0.6667
        spectral_gap      0.2929    0.7257
    """
    return RewiringEffect(graph_statistics(graph), graph_statistics(rewired))
