"""Graph in, graph out, with batch sizes and frames kept: DGL's own edits drop a batch's sizes silently."""

import torch
from torch import Tensor

from gnnlib._platform.dgl import dgl
from gnnlib.graph.adjacency import edge_endpoints
from gnnlib.graph.batch import graph_index

__all__ = ["add_self_loop", "keep_edges", "keep_nodes", "reverse"]


def keep_edges(graph: dgl.DGLGraph, keep: Tensor) -> dgl.DGLGraph:
    """The graph with the same nodes and only the edges where ``keep`` (E,), bool, is true, in their order.

    Node and edge frames, batch sizes, blocks and graphs with two node types are kept as they are.

    Raises: ValueError for a mask of another shape.

    >>> g = dgl.batch([dgl.graph(([0, 1], [1, 0])), dgl.graph(([0], [0]))])
    >>> smaller = keep_edges(g, torch.tensor([True, False, True]))
    >>> smaller.num_edges(), smaller.batch_num_edges().tolist(), smaller.batch_num_nodes().tolist()
    (2, [1, 1], [2, 1])
    """
    keep = _mask(keep, graph.num_edges()).to(graph.device)
    src, dst = (end[keep] for end in edge_endpoints(graph))
    smaller = _same_nodes(graph, src, dst)
    for name, value in graph.edata.items():
        smaller.edata[name] = value[keep.to(value.device)]
    if not graph.is_block:
        owner = graph_index(graph, graph.batch_num_edges())
        _keep_batch(graph, smaller, torch.bincount(owner[keep], minlength=graph.batch_size))
    return smaller


def keep_nodes(graph: dgl.DGLGraph, keep: Tensor) -> dgl.DGLGraph:
    """The graph of the nodes where ``keep`` (N,), bool, is true, and of the edges between them, in their orders.

    Node and edge frames and batch sizes are kept (``dgl.node_subgraph`` drops the latter).

    Raises: ValueError for a mask of another shape, and for blocks and graphs with two node sets.

    >>> g = dgl.batch([dgl.graph(([0, 1], [1, 0])), dgl.graph(([0, 1], [1, 2]))])
    >>> smaller = keep_nodes(g, torch.tensor([True, False, True, True, False]))
    >>> [(one.num_nodes(), one.num_edges()) for one in dgl.unbatch(smaller)]
    [(1, 0), (2, 1)]
    """
    if not graph.is_homogeneous:
        raise ValueError("expected a graph with one node set")
    keep = _mask(keep, graph.num_nodes()).to(graph.device)
    src, dst = edge_endpoints(graph)
    between = keep[src.long()] & keep[dst.long()]
    number = (keep.cumsum(0) - 1).to(src.dtype)
    ends = tuple(number[end[between].long()] for end in (src, dst))
    smaller = dgl.graph(ends, num_nodes=int(keep.sum()), device=graph.device)
    for old, new, mask in ((graph.ndata, smaller.ndata, keep), (graph.edata, smaller.edata, between)):
        for name, value in old.items():
            new[name] = value[mask.to(value.device)]
    if graph.batch_size > 1:
        nodes, edges = (
            torch.bincount(graph_index(graph, sizes)[mask], minlength=graph.batch_size)
            for sizes, mask in ((graph.batch_num_nodes(), keep), (graph.batch_num_edges(), between))
        )
        smaller.set_batch_num_nodes(nodes)
        smaller.set_batch_num_edges(edges)
    return smaller


def add_self_loop(graph: dgl.DGLGraph) -> dgl.DGLGraph:
    """The graph with one more edge from each node to itself, in addition to any it has.

    Edge features of the new edges are 1, as in DGL. In a batch they follow the old edges of their graph, and batch
    sizes are kept, so that it can be taken apart again.

    Raises: ValueError for blocks and graphs with two node sets.

    >>> g = add_self_loop(dgl.batch([dgl.graph(([0], [1])), dgl.graph(([0], [1]))]))
    >>> [one.edges()[0].tolist() for one in dgl.unbatch(g)]
    [[0, 0, 1], [0, 0, 1]]
    """
    if not graph.is_homogeneous:
        raise ValueError("expected a graph with one node set: self-loops need sources that are destinations")
    each = graph.nodes()
    owner = torch.cat([graph_index(graph, graph.batch_num_edges()), graph_index(graph, graph.batch_num_nodes())])
    order = torch.argsort(owner, stable=True)
    larger = _same_nodes(graph, *(torch.cat([end, each])[order] for end in edge_endpoints(graph)))
    for name, value in graph.edata.items():
        larger.edata[name] = torch.cat([value, value.new_ones(len(each), *value.shape[1:])])[order.to(value.device)]
    _keep_batch(graph, larger, graph.batch_num_edges() + graph.batch_num_nodes())
    return larger


def reverse(graph: dgl.DGLGraph) -> dgl.DGLGraph:
    """The same nodes and edges, these turned round; frames and batch sizes are kept (``dgl.reverse`` drops the latter).

    >>> pairs = dgl.batch([dgl.heterograph({("in", "pool", "out"): ([0, 1], [0, 0])})] * 2)
    >>> reverse(pairs).canonical_etypes, reverse(pairs).batch_num_nodes("out").tolist()
    ([('out', 'pool', 'in')], [1, 1])
    """
    turned = dgl.reverse(graph, copy_ndata=True, copy_edata=True)
    _keep_batch(graph, turned, graph.batch_num_edges())
    return turned


def _mask(keep: Tensor, number: int) -> Tensor:
    if keep.dtype != torch.bool or tuple(keep.shape) != (number,):
        raise ValueError(f"expected a bool mask of shape ({number},), got {keep.dtype} {tuple(keep.shape)}")
    return keep


def _same_nodes(graph: dgl.DGLGraph, src: Tensor, dst: Tensor) -> dgl.DGLGraph:
    """A graph of the same kind on the same nodes with the given edges and no edge frame."""
    if graph.is_block:
        new = dgl.create_block((src, dst), graph.num_src_nodes(), graph.num_dst_nodes(), device=graph.device)
    elif graph.is_homogeneous:
        new = dgl.graph((src, dst), num_nodes=graph.num_nodes(), device=graph.device)
    else:
        sizes = {kind: graph.num_nodes(kind) for kind in graph.ntypes}
        new = dgl.heterograph({graph.canonical_etypes[0]: (src, dst)}, sizes, device=graph.device)
    for old, data in ((graph.srcdata, new.srcdata), (graph.dstdata, new.dstdata)):
        for name, value in old.items():
            data[name] = value
    return new


def _keep_batch(graph: dgl.DGLGraph, new: dgl.DGLGraph, num_edges: Tensor) -> None:
    if graph.batch_size > 1:
        new.set_batch_num_nodes({kind: graph.batch_num_nodes(kind) for kind in graph.ntypes})
        new.set_batch_num_edges({new.canonical_etypes[0]: num_edges})
