"""Small graphs with the properties that break layers: isolated nodes, multi-edges, self-loops, batches, two node sets.

`GRAPHS` maps a name to a function that makes the graph; every graph has one edge type. `HOMOGENEOUS` are the names of
graphs with one node set, `BIPARTITE` those of blocks and bipartite graphs. `graph_strategy` makes more with hypothesis.

Example:
    >>> from gnnlib.testing import GRAPHS
    >>> graph = GRAPHS["multi_edge"]()
    >>> graph.num_nodes(), graph.num_edges()
    (2, 4)
"""

from collections.abc import Callable
from typing import Any

import torch

from gnnlib.graph import (
    Graph,
    GraphLike,
    add_self_loop,
    keep_edges,
    makes_dgl,
    message_flow_graph,
    new_bipartite,
    new_block,
    new_graph,
    to_bidirected,
)
from gnnlib.graph import batch as batch_graphs


def random_graph(
    num_nodes: int = 11, num_edges: int = 23, seed: int = 0, idtype: torch.dtype = torch.int64
) -> GraphLike:
    """Random edges between all nodes but the last two, with a self-loop and a triple edge.

    The last two nodes are isolated; node 3 has no in-edges.

    Args:
        num_nodes: number of nodes
        num_edges: number of all edges, at least 5
        seed: of the random numbers
        idtype: of node and edge ids

    Returns:
        the graph
    """
    generator = torch.Generator().manual_seed(seed)
    src, dst = torch.randint(num_nodes - 2, (2, num_edges - 5), generator=generator)
    src = torch.cat([src, torch.tensor([2, 0, 0, 0, 3])])
    dst = torch.cat([dst.where(dst != 3, 0), torch.tensor([2, 1, 1, 1, 0])])
    order = torch.randperm(num_edges, generator=generator)
    return new_graph(src[order], dst[order], num_nodes=num_nodes, idtype=idtype)


def symmetric_graph(num_nodes: int = 11, seed: int = 0) -> GraphLike:
    """Each edge in both directions, some of them double; every node has a self-loop."""
    generator = torch.Generator().manual_seed(seed)
    src, dst = torch.randint(num_nodes, (2, 2 * num_nodes), generator=generator)
    return add_self_loop(new_graph(torch.cat([src, dst]), torch.cat([dst, src]), num_nodes=num_nodes))


def edgeless(num_nodes: int = 4) -> GraphLike:
    return new_graph([], [], num_nodes=num_nodes)


def tree() -> GraphLike:
    """Binary, seven nodes, from the leaves to the root."""
    return new_graph([1, 2, 3, 4, 5, 6], [0, 0, 1, 1, 2, 2])


def clique(num_nodes: int = 5) -> GraphLike:
    src, dst = (1 - torch.eye(num_nodes)).nonzero(as_tuple=True)
    return new_graph(src, dst, num_nodes=num_nodes)


def all_pairs(num_nodes: int = 5) -> GraphLike:
    src, dst = torch.ones(num_nodes, num_nodes).nonzero(as_tuple=True)
    return new_graph(src, dst, num_nodes=num_nodes)


def star(num_leaves: int = 9) -> GraphLike:
    """Node 0 has an in-edge from each other node; these have none."""
    return new_graph(torch.arange(1, num_leaves + 1), torch.zeros(num_leaves, dtype=torch.int64))


def path(num_nodes: int = 6) -> GraphLike:
    return new_graph(torch.arange(num_nodes - 1), torch.arange(1, num_nodes))


def batch() -> GraphLike:
    return batch_graphs([random_graph(6, 9), edgeless(0), edgeless(3), path(4)])


def block() -> GraphLike:
    """A message-flow block: destinations are the first sources, some of them without in-edges."""
    return message_flow_graph(random_graph(), torch.tensor([0, 1, 2, 9]))


def sampled_blocks(num_layers: int, num_nodes: int = 40, num_edges: int = 150, seed: int = 0) -> list[GraphLike]:
    """Message-flow graphs of at most three random in-edges per node for a few seed nodes, the outermost first."""
    generator, graph = torch.Generator().manual_seed(seed), random_graph(num_nodes, num_edges, seed)
    nodes, blocks = torch.tensor([0, 1, 2, 3, num_nodes - 1]), []
    for _ in range(num_layers):
        order = torch.randperm(num_edges, generator=generator)
        into = [order[graph.edges()[1][order] == node][:3] for node in nodes]
        keep = torch.zeros(num_edges, dtype=torch.bool).index_fill_(0, torch.cat(into), True)
        blocks.append(message_flow_graph(keep_edges(graph, keep), nodes))
        nodes = blocks[-1].srcdata["_ID"]
    return blocks[::-1]


def block_without_ids() -> GraphLike:
    """A block without node ids, so that its destinations need not be among its sources."""
    return new_block([0, 1, 2, 2, 4, 4], [0, 0, 2, 1, 1, 1], 5, 4)


def bipartite(num_src: int = 6, num_dst: int = 4, idtype: torch.dtype = torch.int64) -> GraphLike:
    """Two node types; one source and one destination are isolated, one edge is double."""
    src, dst = torch.tensor([0, 1, 2, 3, 3, 4, 4, 0]), torch.tensor([0, 0, 1, 2, 0, 2, 2, 2])
    return new_bipartite(("in", "to", "out"), src, dst, num_src, num_dst, idtype=idtype)


def _sparse(graph: Any, name: str) -> GraphLike:
    """Of a DGLGraph only one sparse format."""
    return graph.formats(name) if makes_dgl(graph) else graph


GRAPHS: dict[str, Callable[[], GraphLike]] = {
    "random": random_graph,
    "random_int32": lambda: random_graph(idtype=torch.int32),
    "random_csc": lambda: _sparse(random_graph(), "csc"),
    "random_csr": lambda: _sparse(random_graph(), "csr"),
    "no_nodes": lambda: edgeless(0),
    "bare": edgeless,
    "one_node": lambda: edgeless(1),
    "one_node_loop": lambda: new_graph([0], [0]),
    "multi_edge": lambda: new_graph([0, 0, 0, 1], [1, 1, 1, 0]),
    "self_loops": lambda: new_graph([0, 0, 1, 2], [0, 0, 1, 1]),
    "tree": tree,
    "clique": clique,
    "star": star,
    "path": path,
    "batch": batch,
    "block": block,
    "block_int32": lambda: message_flow_graph(random_graph(idtype=torch.int32), torch.arange(9)),
    "bare_block": block_without_ids,
    "bipartite": bipartite,
    "bipartite_int32": lambda: bipartite(idtype=torch.int32),
    "bipartite_csc": lambda: _sparse(bipartite(), "csc"),
}
HOMOGENEOUS = [name for name, make in GRAPHS.items() if make().is_homogeneous]
OTHER_FORMS = ["random_int32", "random_csc", "random_csr", "block_int32", "bipartite_int32", "bipartite_csc"]
"""Names of the graphs that are another graph of `GRAPHS` with other ids or another sparse format."""
BIPARTITE = [name for name in GRAPHS if name not in HOMOGENEOUS]


def endpoints(graph: GraphLike) -> tuple[torch.Tensor, torch.Tensor]:
    """Source and destination of every edge by edge id, int64, from any sparse format."""
    graph = graph if isinstance(graph, Graph) else graph.formats(["coo", "csr", "csc"])
    src, dst = graph.edges(order="eid")
    return src.long(), dst.long()


def communities(num_nodes: int = 200, classes: int = 4, noise: float = 1.0) -> tuple[GraphLike, dict]:
    """A graph whose neighbours are mostly of one class, ndata ``feat`` and ``label``, and the ids of each part."""
    generator = torch.Generator().manual_seed(0)
    label = torch.arange(num_nodes) % classes
    src, dst = torch.randint(num_nodes, (2, 20 * num_nodes), generator=generator)
    keep = (label[src] == label[dst]) | (torch.rand(len(src), generator=generator) < 0.05)
    graph = to_bidirected(new_graph(src[keep], dst[keep], num_nodes=num_nodes))
    feat = torch.nn.functional.one_hot(label, classes) + noise * torch.randn(num_nodes, classes, generator=generator)
    graph.ndata["feat"], graph.ndata["label"] = feat, label
    sizes = [num_nodes // 2, num_nodes // 4, num_nodes - num_nodes // 2 - num_nodes // 4]
    parts = torch.randperm(num_nodes, generator=generator).split(sizes)
    return graph, dict(zip(("train", "valid", "test"), parts, strict=True))


def graph_strategy(max_nodes: int = 8, max_edges: int = 16) -> Any:
    """A strategy of hypothesis: any small graph, multi-edges and self-loops included, with or without nodes and edges.

    Args:
        max_nodes: largest number of nodes
        max_edges: largest number of edges

    Returns:
        the strategy, whose examples shrink
    """
    from hypothesis import strategies as st

    @st.composite
    def graphs(draw: Callable) -> GraphLike:
        num_nodes = draw(st.integers(0, max_nodes))
        node = st.integers(0, max(0, num_nodes - 1))
        edges = draw(st.lists(st.tuples(node, node), max_size=max_edges if num_nodes else 0))
        src, dst = torch.tensor(edges, dtype=torch.int64).reshape(-1, 2).unbind(1)
        return new_graph(src, dst, num_nodes=num_nodes)

    return graphs()
