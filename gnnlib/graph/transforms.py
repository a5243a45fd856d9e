"""Graph transforms that keep frames and batch sizes. (DGL's own transforms drop a batch's sizes silently.)"""

import torch
from torch import Tensor

from gnnlib._utils.calls import names_checked
from gnnlib._utils.indices import as_indices
from gnnlib.graph._batch import graph_index
from gnnlib.graph._build import new_bipartite, new_block, new_graph
from gnnlib.graph._check import check_graph, check_one_node_set
from gnnlib.graph._convert import takes_graph
from gnnlib.graph._structure import GraphLike, edge_endpoints

__all__ = ["add_edges", "add_self_loop", "keep_edges", "keep_nodes", "remove_links", "reverse"]


@names_checked()
@takes_graph()
def keep_edges(graph: GraphLike, keep: Tensor) -> GraphLike:
    """The subgraph of some edges and all nodes, in their order, with node and edge frames and batch sizes.

    Args:
        graph: homogeneous, bipartite, or a message-flow graph (DGL block); the result is of the same kind
        keep: true for the edges to keep

    Shapes:
        - keep: (E,), bool

    Returns:
        A new graph.

    Raises:
        ValueError: if the mask has another shape or dtype.

    Example:
        >>> import torch
        >>> from gnnlib.graph import keep_edges
        >>> import dgl
        >>> g = dgl.batch([dgl.graph(([0, 1], [1, 0])), dgl.graph(([0], [0]))])
        >>> subgraph = keep_edges(g, torch.tensor([True, False, True]))
        >>> subgraph.num_edges(), subgraph.batch_num_edges().tolist(), subgraph.batch_num_nodes().tolist()
        (2, [1, 1], [2, 1])
    """
    keep = _mask(keep, graph.num_edges()).to(graph.device)
    src, dst = (nodes[keep] for nodes in edge_endpoints(graph))
    subgraph = _with_edges(graph, src, dst)
    for name, value in graph.edata.items():
        subgraph.edata[name] = value[keep.to(value.device)]
    if not graph.is_block:
        graph_of_edge = graph_index(graph, graph.batch_num_edges())
        _keep_batch(graph, subgraph, torch.bincount(graph_of_edge[keep], minlength=graph.batch_size))
    return subgraph


@names_checked()
@takes_graph()
def keep_nodes(graph: GraphLike, keep: Tensor) -> GraphLike:
    """The subgraph induced by some nodes, in their order, with node and edge frames and batch sizes.

    (``dgl.node_subgraph`` drops the batch sizes.)

    Args:
        graph: homogeneous
        keep: true for the nodes to keep

    Shapes:
        - keep: (N,), bool

    Returns:
        A new graph.

    Raises:
        ValueError: if the mask has another shape or dtype.
        ValueError: if the graph is a block or has two node types.
        TypeError: if the graph has several edge types.

    Example:
        >>> import torch
        >>> from gnnlib.graph import keep_nodes
        >>> import dgl
        >>> g = dgl.batch([dgl.graph(([0, 1], [1, 0])), dgl.graph(([0, 1], [1, 2]))])
        >>> subgraph = keep_nodes(g, torch.tensor([True, False, True, True, False]))
        >>> [(one.num_nodes(), one.num_edges()) for one in dgl.unbatch(subgraph)]
        [(1, 0), (2, 1)]
    """
    check_one_node_set("keep_nodes", graph)
    keep = _mask(keep, graph.num_nodes()).to(graph.device)
    src, dst = edge_endpoints(graph)
    between = keep[src.long()] & keep[dst.long()]
    new_id = (keep.cumsum(0) - 1).to(src.dtype)
    new_src, new_dst = (new_id[nodes[between].long()] for nodes in (src, dst))
    subgraph = new_graph(new_src, new_dst, int(keep.sum()), like=graph)
    for old, new, mask in ((graph.ndata, subgraph.ndata, keep), (graph.edata, subgraph.edata, between)):
        for name, value in old.items():
            new[name] = value[mask.to(value.device)]
    if graph.batch_size > 1:
        num_nodes, num_edges = (
            torch.bincount(graph_index(graph, sizes)[mask], minlength=graph.batch_size)
            for sizes, mask in ((graph.batch_num_nodes(), keep), (graph.batch_num_edges(), between))
        )
        subgraph.set_batch_num_nodes(num_nodes)
        subgraph.set_batch_num_edges(num_edges)
    return subgraph


@names_checked()
@takes_graph()
def add_edges(graph: GraphLike, src: Tensor, dst: Tensor, *, fill: float = 1.0) -> GraphLike:
    """Add edges, with node and edge frames and batch sizes. (``dgl.add_edges`` drops the batch sizes.)

    In a batch the new edges follow the other edges of their graph, so that ``dgl.unbatch`` works.

    Args:
        graph: homogeneous
        src, dst: the endpoints of the new edges
        fill: the features of the new edges

    Shapes:
        - src, dst: (A,)

    Returns:
        A new graph.

    Raises:
        ValueError: if the endpoints are no pairs of nodes, or of two graphs of a batch.
        ValueError: if the graph is a block or has two node types.
        TypeError: if the graph has several edge types.

    Example:
        >>> import torch
        >>> from gnnlib.graph import add_edges
        >>> import dgl
        >>> g = dgl.batch([dgl.graph(([0], [1])), dgl.graph(([0], [1]))])
        >>> g = add_edges(g, torch.tensor([3, 1]), torch.tensor([2, 0]))
        >>> [one.edges()[0].tolist() for one in dgl.unbatch(g)]
        [[0, 1], [0, 1]]
    """
    check_one_node_set("add_edges", graph)
    src, dst = (_as_endpoint(graph, name, nodes) for name, nodes in (("src", src), ("dst", dst)))
    if len(src) != len(dst):
        raise ValueError(f"add_edges: expected as many src as dst, got {len(src)} and {len(dst)}")
    graph_of_node = graph_index(graph, graph.batch_num_nodes())
    graph_of_edge = graph_of_node[src.long()]
    if bool((graph_of_edge != graph_of_node[dst.long()]).any()):
        raise ValueError("add_edges: expected both nodes of an edge in one graph of the batch, got two graphs")
    index = torch.cat([graph_index(graph, graph.batch_num_edges()), graph_of_edge])
    order = torch.argsort(index, stable=True)
    ends = (torch.cat(pair)[order] for pair in zip(edge_endpoints(graph), (src, dst)))
    larger = _with_edges(graph, *ends)
    for name, value in graph.edata.items():
        new = value.new_full((len(src), *value.shape[1:]), fill)
        larger.edata[name] = torch.cat([value, new])[order.to(value.device)]
    _keep_batch(graph, larger, torch.bincount(index, minlength=graph.batch_size))
    return larger


@names_checked()
@takes_graph()
def add_self_loop(graph: GraphLike) -> GraphLike:
    """Add one self-loop per node, in addition to those that the graph has.

    Features of the new edges are 1, as in DGL. In a batch they follow the other edges of their graph, and batch sizes
    are kept, so that ``dgl.unbatch`` works.

    Args:
        graph: homogeneous

    Returns:
        A new graph.

    Raises:
        ValueError: if the graph is a block or has two node types.
        TypeError: if the graph has several edge types.

    Example:
        >>> from gnnlib.graph import add_self_loop
        >>> import dgl
        >>> g = add_self_loop(dgl.batch([dgl.graph(([0], [1])), dgl.graph(([0], [1]))]))
        >>> [one.edges()[0].tolist() for one in dgl.unbatch(g)]
        [[0, 0, 1], [0, 0, 1]]
    """
    check_one_node_set("add_self_loop", graph)
    return add_edges(graph, graph.nodes(), graph.nodes())


@names_checked()
@takes_graph()
def remove_links(graph: GraphLike, u: Tensor, v: Tensor) -> GraphLike:
    """The graph without the edges between pairs of nodes, in both directions, with frames and batch sizes.

    A network that is trained to predict links must not receive messages along them: ``remove_links(graph, u, v)`` is
    the graph for a step whose targets are the pairs (u, v).

    Args:
        graph: homogeneous
        u: numbers of the first nodes
        v: numbers of the second nodes; pairs without a link do no harm

    Shapes:
        - u, v: (n,)

    Returns:
        A new graph, with the same nodes.

    Raises:
        ValueError: if u and v have different lengths, or the graph has two node sets
        IndexError: if a node is out of range
        TypeError: if the graph has several edge types.

    Example:
        >>> from gnnlib.graph import remove_links
        >>> import dgl
        >>> [nodes.tolist() for nodes in remove_links(dgl.graph(([0, 1, 1, 2], [1, 0, 2, 1])), [1], [0]).edges()]
        [[1, 2], [2, 1]]
    """
    check_one_node_set("remove_links", graph)
    n = graph.num_nodes()
    u, v = (as_indices(nodes, n, f"remove_links: {name}") for name, nodes in (("u", u), ("v", v)))
    if len(u) != len(v):
        raise ValueError(f"remove_links: expected u and v of one length, got {len(u)} and {len(v)}")
    src, dst = (nodes.long() for nodes in edge_endpoints(graph))
    pairs = torch.cat([u * n + v, v * n + u]).to(src.device)
    return keep_edges(graph, ~torch.isin(src * n + dst, pairs))


@names_checked()
@takes_graph()
def reverse(graph: GraphLike) -> GraphLike:
    """Reverse every edge, with frames and batch sizes. (``dgl.reverse`` drops the batch sizes.)

    Args:
        graph: with one edge type

    Returns:
        A new graph.

    Raises:
        TypeError: if the graph has several edge types.

    Example:
        >>> from gnnlib.graph import reverse
        >>> import dgl
        >>> pairs = dgl.batch([dgl.heterograph({("in", "pool", "out"): ([0, 1], [0, 0])})] * 2)
        >>> reverse(pairs).canonical_etypes, reverse(pairs).batch_num_nodes("out").tolist()
        ([('out', 'pool', 'in')], [1, 1])
    """
    check_graph("reverse", graph)
    src, dst = edge_endpoints(graph)
    reversed_graph = _with_edges(graph, dst, src, reverse=True)
    for name, value in graph.edata.items():
        reversed_graph.edata[name] = value
    _keep_batch(graph, reversed_graph, None if graph.is_block else graph.batch_num_edges())
    return reversed_graph


def _mask(keep: Tensor, number: int) -> Tensor:
    if keep.dtype != torch.bool or tuple(keep.shape) != (number,):
        raise ValueError(f"expected a bool mask of shape ({number},), got {keep.dtype} {tuple(keep.shape)}")
    return keep


def _as_endpoint(graph: GraphLike, name: str, nodes: Tensor) -> Tensor:
    """Numbers of nodes, checked, of the graph's type and on its device."""
    nodes = torch.as_tensor(nodes, device=graph.device)
    if nodes.dim() != 1 or nodes.is_floating_point() or nodes.dtype == torch.bool:
        raise ValueError(f"{name}: expected numbers of nodes (A,), got {nodes.dtype} {tuple(nodes.shape)}")
    if len(nodes) and not 0 <= int(nodes.min()) <= int(nodes.max()) < graph.num_nodes():
        got = f"{int(nodes.min())} to {int(nodes.max())}"
        raise ValueError(f"{name}: expected nodes from 0 to {graph.num_nodes() - 1}, got {got}")
    return nodes.to(graph.idtype)


def _with_edges(graph: GraphLike, src: Tensor, dst: Tensor, *, reverse: bool = False) -> GraphLike:
    """A graph of the same kind, with the same nodes and their frames, and other edges."""
    kind = graph.canonical_etypes[0]
    ends = (
        (kind[0], graph.num_src_nodes(kind[0]), graph.srcdata),
        (kind[2], graph.num_dst_nodes(kind[2]), graph.dstdata),
    )
    (source, num_src, srcdata), (destination, num_dst, dstdata) = ends[::-1] if reverse else ends
    if graph.is_block:
        new = new_block(src, dst, num_src, num_dst, like=graph)
    elif graph.is_homogeneous:
        new = new_graph(src, dst, num_src, like=graph)
    else:
        new = new_bipartite((source, kind[1], destination), src, dst, num_src, num_dst, like=graph)
    for old, frame in ((srcdata, new.srcdata), (dstdata, new.dstdata)):
        for name, value in old.items():
            frame[name] = value
    return new


def _keep_batch(graph: GraphLike, new: GraphLike, num_edges: Tensor | None) -> None:
    if num_edges is not None and graph.batch_size > 1:
        new.set_batch_num_nodes({kind: graph.batch_num_nodes(kind) for kind in graph.ntypes})
        new.set_batch_num_edges({new.canonical_etypes[0]: num_edges})
