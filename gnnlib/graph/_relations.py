"""The edge types of a graph: a graph of one type, whose structure and cached adjacency stay with the whole graph."""

from collections.abc import Callable
from typing import Any

from gnnlib._utils.calls import names_checked
from gnnlib.graph._check import graph_error
from gnnlib.graph._convert import takes_graph
from gnnlib.graph._graph import EdgeType, Graph
from gnnlib.graph._structure import GraphLike

__all__ = ["relation_graph", "relation_structure"]


@names_checked()
@takes_graph()
def relation_graph(graph: GraphLike, etype: str | EdgeType) -> GraphLike:
    """The graph of one edge type, with the same features: ``graph[etype]``, whose adjacency is computed once.

    DGL makes a new structure at each ``graph[etype]``, and its adjacency would be computed at each call of a layer. The
    first structure of each edge type is stored with that of the graph, until the graph is edited.

    Args:
        graph: a graph or a block, with any number of edge types
        etype: the name of an edge type, or (source type, name, destination type)

    Returns:
        a graph with one edge type

    Raises:
        TypeError: if ``graph`` is no graph
        ValueError: if the graph has no such edge type, or several of this name

    Example:
        >>> from gnnlib import adjacency
        >>> from gnnlib.graph import relation_graph
        >>> import dgl
        >>> g = dgl.heterograph({("user", "plays", "game"): ([0, 1], [0, 0]), ("user", "knows", "user"): ([0], [1])})
        >>> adjacency(relation_graph(g, "plays")) is adjacency(relation_graph(g, "plays"))
        True
    """
    error = graph_error("relation_graph", graph, types=True)
    if error is not None:
        raise error
    kinds = [kind for kind in graph.canonical_etypes if etype in (kind, kind[1])]
    if len(kinds) != 1:
        raise ValueError(f"relation_graph: expected one of the edge types {graph.canonical_etypes}, got {etype!r}")
    relation: Any = graph[kinds[0]]
    if not isinstance(graph, Graph):
        number = graph.get_etype_id(kinds[0])
        relation._graph = relation_structure(graph._graph, number, lambda: relation._graph)
    return relation


def relation_structure(structure: Any, number: int, make: Callable[[], Any]) -> Any:
    """The structure of an edge type of a DGLGraph, made once and stored with the structure of the graph."""
    relations = structure.__dict__.setdefault("_gnnlib_relations", {})
    if number not in relations:
        relations[number] = make()
    return relations[number]
