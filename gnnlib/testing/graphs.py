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

from gnnlib._platform.dgl import dgl


def random_graph(
    num_nodes: int = 11, num_edges: int = 23, seed: int = 0, idtype: torch.dtype = torch.int64
) -> dgl.DGLGraph:
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
    return dgl.graph((src[order], dst[order]), num_nodes=num_nodes, idtype=idtype)


def symmetric_graph(num_nodes: int = 11, seed: int = 0) -> dgl.DGLGraph:
    """Each edge in both directions, some of them double; every node has a self-loop."""
    generator = torch.Generator().manual_seed(seed)
    src, dst = torch.randint(num_nodes, (2, 2 * num_nodes), generator=generator)
    return dgl.add_self_loop(dgl.graph((torch.cat([src, dst]), torch.cat([dst, src])), num_nodes=num_nodes))


def edgeless(num_nodes: int = 4) -> dgl.DGLGraph:
    return dgl.graph(([], []), num_nodes=num_nodes)


def tree() -> dgl.DGLGraph:
    """Binary, seven nodes, from the leaves to the root."""
    return dgl.graph(([1, 2, 3, 4, 5, 6], [0, 0, 1, 1, 2, 2]))


def clique(num_nodes: int = 5) -> dgl.DGLGraph:
    src, dst = (1 - torch.eye(num_nodes)).nonzero(as_tuple=True)
    return dgl.graph((src, dst), num_nodes=num_nodes)


def all_pairs(num_nodes: int = 5) -> dgl.DGLGraph:
    src, dst = torch.ones(num_nodes, num_nodes).nonzero(as_tuple=True)
    return dgl.graph((src, dst), num_nodes=num_nodes)


def star(num_leaves: int = 9) -> dgl.DGLGraph:
    """Node 0 has an in-edge from each other node; these have none."""
    return dgl.graph((torch.arange(1, num_leaves + 1), torch.zeros(num_leaves, dtype=torch.int64)))


def path(num_nodes: int = 6) -> dgl.DGLGraph:
    return dgl.graph((torch.arange(num_nodes - 1), torch.arange(1, num_nodes)))


def batch() -> dgl.DGLGraph:
    return dgl.batch([random_graph(6, 9), edgeless(0), edgeless(3), path(4)])


def block() -> dgl.DGLGraph:
    """A message-flow block: destinations are the first sources, some of them without in-edges."""
    src, dst = random_graph().edges()
    seeds = torch.tensor([0, 1, 2, 9])
    sampled = torch.isin(dst, seeds)
    return dgl.to_block(dgl.graph((src[sampled], dst[sampled]), num_nodes=11), seeds)


def sampled_blocks(num_layers: int, num_nodes: int = 40, num_edges: int = 150, seed: int = 0) -> list[dgl.DGLGraph]:
    """Blocks of a neighbour sampler for a few seed nodes, the outermost first."""
    dgl.seed(seed)
    sampler = dgl.dataloading.MultiLayerNeighborSampler([3] * num_layers)
    seeds = torch.tensor([0, 1, 2, 3, num_nodes - 1])
    return sampler.sample_blocks(random_graph(num_nodes, num_edges, seed), seeds)[2]


def block_without_ids() -> dgl.DGLGraph:
    """A block without node ids, so that its destinations need not be among its sources."""
    return dgl.create_block(([0, 1, 2, 2, 4, 4], [0, 0, 2, 1, 1, 1]), num_src_nodes=5, num_dst_nodes=4)


def bipartite(num_src: int = 6, num_dst: int = 4, idtype: torch.dtype = torch.int64) -> dgl.DGLGraph:
    """Two node types; one source and one destination are isolated, one edge is double."""
    src, dst = torch.tensor([0, 1, 2, 3, 3, 4, 4, 0]), torch.tensor([0, 0, 1, 2, 0, 2, 2, 2])
    return dgl.heterograph({("in", "to", "out"): (src, dst)}, {"in": num_src, "out": num_dst}, idtype=idtype)


GRAPHS: dict[str, Callable[[], dgl.DGLGraph]] = {
    "random": random_graph,
    "random_int32": lambda: random_graph(idtype=torch.int32),
    "random_csc": lambda: random_graph().formats("csc"),
    "random_csr": lambda: random_graph().formats("csr"),
    "no_nodes": lambda: edgeless(0),
    "bare": edgeless,
    "one_node": lambda: edgeless(1),
    "one_node_loop": lambda: dgl.graph(([0], [0])),
    "multi_edge": lambda: dgl.graph(([0, 0, 0, 1], [1, 1, 1, 0])),
    "self_loops": lambda: dgl.graph(([0, 0, 1, 2], [0, 0, 1, 1])),
    "tree": tree,
    "clique": clique,
    "star": star,
    "path": path,
    "batch": batch,
    "block": block,
    "block_int32": lambda: dgl.to_block(random_graph(idtype=torch.int32)),
    "bare_block": block_without_ids,
    "bipartite": bipartite,
    "bipartite_int32": lambda: bipartite(idtype=torch.int32),
    "bipartite_csc": lambda: bipartite().formats("csc"),
}
HOMOGENEOUS = [name for name, make in GRAPHS.items() if make().is_homogeneous]
BIPARTITE = [name for name in GRAPHS if name not in HOMOGENEOUS]


def endpoints(graph: dgl.DGLGraph) -> tuple[torch.Tensor, torch.Tensor]:
    """Source and destination of every edge by edge id, int64, from any sparse format."""
    src, dst = graph.formats(["coo", "csr", "csc"]).edges(order="eid")
    return src.long(), dst.long()


def communities(num_nodes: int = 200, classes: int = 4, noise: float = 1.0) -> tuple[dgl.DGLGraph, dict]:
    """A graph whose neighbours are mostly of one class, ndata ``feat`` and ``label``, and the ids of each part."""
    generator = torch.Generator().manual_seed(0)
    label = torch.arange(num_nodes) % classes
    src, dst = torch.randint(num_nodes, (2, 20 * num_nodes), generator=generator)
    keep = (label[src] == label[dst]) | (torch.rand(len(src), generator=generator) < 0.05)
    graph = dgl.to_bidirected(dgl.graph((src[keep], dst[keep]), num_nodes=num_nodes))
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
    def graphs(draw: Callable) -> dgl.DGLGraph:
        num_nodes = draw(st.integers(0, max_nodes))
        node = st.integers(0, max(0, num_nodes - 1))
        edges = draw(st.lists(st.tuples(node, node), max_size=max_edges if num_nodes else 0))
        src, dst = torch.tensor(edges, dtype=torch.int64).reshape(-1, 2).unbind(1)
        return dgl.graph((src, dst), num_nodes=num_nodes)

    return graphs()
