"""Subgraphs of chosen nodes: DGL's, for both kinds of graph, and what they mean."""

import pytest
import torch

from gnnlib._platform.dgl import dgl
from gnnlib.graph import Graph, edge_endpoints, message_flow_graph, new_graph, node_subgraph, to_bidirected
from gnnlib.testing.graphs import random_graph

NODES = torch.tensor([7, 0, 3, 10, 1])


def with_features(idtype):
    graph = random_graph(12, 60, idtype=idtype)
    graph.ndata["feat"], graph.edata["weight"] = torch.rand(12, 2), torch.rand(60)
    return graph


def contents(graph):
    frames = (graph.srcdata, graph.dstdata) if graph.is_block else (graph.ndata,)
    columns = [{name: value.tolist() for name, value in frame.items()} for frame in (*frames, graph.edata)]
    return [nodes.tolist() for nodes in edge_endpoints(graph)], columns, graph.idtype, graph.num_dst_nodes()


@pytest.mark.parametrize("idtype", [torch.int32, torch.int64])
@pytest.mark.parametrize("make", [lambda graph: graph, Graph], ids=["default", "Graph"])
def test_node_subgraph(make, idtype):
    graph = with_features(idtype)
    smaller = node_subgraph(make(graph), NODES)
    src, dst = (nodes.long() for nodes in edge_endpoints(graph))
    between = [e for u in NODES for e in range(60) if src[e] == u and dst[e] in NODES]
    assert smaller.edata["_ID"].tolist() == between
    assert torch.equal(NODES[edge_endpoints(smaller)[0].long()], src[between])
    assert torch.equal(NODES[edge_endpoints(smaller)[1].long()], dst[between])
    assert torch.equal(smaller.ndata["feat"], graph.ndata["feat"][NODES])
    assert torch.equal(smaller.edata["weight"], graph.edata["weight"][between])
    assert (smaller.idtype, smaller.edata["_ID"].dtype) == (idtype, idtype)


@pytest.mark.parametrize("idtype", [torch.int32, torch.int64])
@pytest.mark.parametrize("make", [lambda graph: graph, Graph], ids=["default", "Graph"])
def test_message_flow_graph(make, idtype):
    graph = with_features(idtype)
    block = message_flow_graph(make(graph), NODES)
    src, dst = (nodes.long() for nodes in edge_endpoints(graph))
    into = [e for v in NODES for e in range(60) if dst[e] == v]
    sources = list(dict.fromkeys([*NODES.tolist(), *src[into].tolist()]))
    assert block.is_block
    assert block.edata["_ID"].tolist() == into
    assert block.srcdata["_ID"].tolist() == sources
    assert block.dstdata["_ID"].tolist() == NODES.tolist()
    assert torch.equal(torch.tensor(sources)[edge_endpoints(block)[0].long()], src[into])
    assert torch.equal(NODES[edge_endpoints(block)[1].long()], dst[into])
    assert torch.equal(block.srcdata["feat"], graph.ndata["feat"][sources])
    assert torch.equal(block.edata["weight"], graph.edata["weight"][into])
    assert block.idtype == idtype


@pytest.mark.parametrize("subgraph", [node_subgraph, message_flow_graph])
@pytest.mark.parametrize("make", [lambda graph: graph, Graph], ids=["default", "Graph"])
def test_nodes_as_a_mask(make, subgraph):
    graph, nodes = make(with_features(torch.int64)), NODES.sort().values
    mask = torch.zeros(12, dtype=torch.bool).index_fill_(0, nodes, True)
    assert contents(subgraph(graph, mask)) == contents(subgraph(graph, nodes))
    with pytest.raises(IndexError, match=f"{subgraph.__name__}: expected numbers from -12 to 11, got 12"):
        subgraph(graph, torch.tensor([12]))


def test_both_kinds_are_dgls():
    for idtype in (torch.int32, torch.int64):
        graph = with_features(idtype)
        expected = dgl.node_subgraph(graph, NODES.to(idtype))
        assert contents(node_subgraph(Graph(graph), NODES)) == contents(expected)
        expected = message_flow_graph(graph, NODES)  # of dgl.in_subgraph and dgl.to_block
        assert contents(message_flow_graph(Graph(graph), NODES)) == contents(expected)
        assert contents(to_bidirected(Graph(graph))) == contents(dgl.to_bidirected(graph))


def test_empty():
    graph = new_graph([], [], 3)
    assert node_subgraph(graph, torch.tensor([2])).num_nodes() == 1
    assert message_flow_graph(graph, torch.tensor([2, 1])).num_src_nodes() == 2
    assert to_bidirected(graph).num_nodes() == 3
    assert to_bidirected(new_graph([], [], 0)).num_nodes() == 0


@pytest.mark.parametrize("make", [lambda graph: graph, Graph], ids=["default", "Graph"])
def test_degrees_of_some_nodes(make):
    graph = make(message_flow_graph(random_graph(12, 60), NODES))
    src, dst = (nodes.tolist() for nodes in edge_endpoints(graph))
    assert graph.in_degrees([3, 0]).tolist() == [dst.count(3), dst.count(0)]
    assert graph.out_degrees(torch.tensor([6, 5])).tolist() == [src.count(6), src.count(5)]
    assert graph.in_degrees(4) == dst.count(4)
    assert (type(graph.out_degrees(5)), graph.in_degrees([3]).dtype) == (int, graph.idtype)


@pytest.mark.parametrize("node", [-1, 12])
def test_degrees_of_no_node(node):
    with pytest.raises(IndexError, match=f"expected nodes 0 to 11, got {node} to {node}"):
        Graph(random_graph(12, 60)).in_degrees(node)
