"""Neighbour sampling, clusters and layer-wise inference: equal to the whole graph, reproducible, resumable."""

from functools import partial

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from gnnlib import (
    APPNP,
    BatchNorm,
    GATConv,
    GCNConv,
    GINConv,
    GNNLayer,
    InitialResidual,
    JumpingKnowledge,
    LayerNorm,
    PairNorm,
    Residual,
    SAGEConv,
    Stack,
    readout_mean,
)
from gnnlib._platform.dgl import dgl
from gnnlib.large.inference import layerwise_inference
from gnnlib.large.sampling import cluster_batches, clusters, gcn_edge_weights, sampled_batches
from gnnlib.large.tables import NpyMatrix
from gnnlib.testing.graphs import random_graph, symmetric_graph
from gnnlib.train.checkpoints import Checkpoint
from gnnlib.train.loop import fit

NUM, F, C = 40, 6, 3


def gat(in_feats, out_feats):
    return GATConv(in_feats, out_feats // 2 if out_feats % 2 == 0 else out_feats, 2 if out_feats % 2 == 0 else 1)


CONVS = {"sage": SAGEConv, "gcn": partial(GCNConv, norm="right"), "gat": gat, "gin": GINConv}
REMEDIES = {
    "none": {},
    "batchnorm, residual": {"norm": BatchNorm, "skip": Residual},
    "initial, encoder, head": {"norm": LayerNorm, "skip": partial(InitialResidual, lam=None), "encoder": True},
    "jump": {"jump": JumpingKnowledge.cat, "dropout": 0.5},
}


@pytest.fixture
def case():
    graph = random_graph(NUM, 150)
    some = torch.Generator().manual_seed(0)
    return graph, torch.randn(NUM, F, generator=some), torch.arange(NUM), some


def build(conv, remedy, layers=3):
    torch.manual_seed(0)
    model = Stack.build(CONVS[conv], F, 8, C, layers, **REMEDIES[remedy])
    for norm in model.modules():
        if isinstance(norm, BatchNorm):
            nn.init.uniform_(norm.running_mean)
            nn.init.uniform_(norm.running_var, 0.5, 2)
    return model.eval()


@pytest.mark.parametrize("remedy", REMEDIES)
@pytest.mark.parametrize("conv", CONVS)
def test_with_all_neighbours_a_batch_equals_the_whole_graph(case, conv, remedy):
    graph, x, target, some = case
    model = build(conv, remedy)
    expected = model(graph, x)
    batches = sampled_batches(graph, x, target, target, fanouts=[-1, -1, -1], batch_size=7, generator=some)
    with torch.no_grad():
        for batch in batches:
            assert torch.allclose(model(batch.graph, batch.x, batch.edge), expected[batch.target], atol=1e-5)


@pytest.mark.parametrize("batch_size", [1, 7, 100])
@pytest.mark.parametrize("remedy", REMEDIES)
@pytest.mark.slow
def test_inference_equals_the_model_on_the_whole_graph(case, remedy, batch_size):
    graph, x, *_ = case
    for conv in ("sage", "gat"):
        model = build(conv, remedy).train()
        outputs = layerwise_inference(model, graph, x, batch_size=batch_size)
        assert model.training
        assert torch.allclose(outputs, model.eval()(graph, x), atol=1e-5)
        assert torch.equal(layerwise_inference(model, graph, x, batch_size=batch_size), outputs), (
            "the same bits on a second run"
        )


@pytest.fixture(params=[1, 2])
def threads(request):
    """DGL samples differently with several threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("threads")
def test_gcn_edge_weights_equal_gcn_in_batches_and_in_inference(case):
    *_, some = case
    for graph in (symmetric_graph(NUM), random_graph(NUM, 150, idtype=torch.int32)):
        x, target, edge = torch.randn(NUM, F), torch.arange(NUM), gcn_edge_weights(graph)
        model = build("gcn", "none")
        gcn = Stack.build(GCNConv, F, 8, C, 3).eval()
        gcn.load_state_dict(model.state_dict())
        expected = gcn(graph, x)
        assert torch.allclose(model(graph, x, edge), expected, atol=1e-5)
        assert torch.allclose(layerwise_inference(model, graph, x, batch_size=9, edge=edge), expected, atol=1e-5)
        for batch in sampled_batches(
            graph, x, target, target, fanouts=[-1] * 3, batch_size=9, generator=some, edge=edge
        ):
            assert torch.allclose(model(batch.graph, batch.x, batch.edge), expected[batch.target], atol=1e-5)


@pytest.mark.slow
def test_the_mean_over_samples_is_an_unbiased_estimate():
    graph = symmetric_graph(NUM)
    x, target, edge = torch.randn(NUM, 1), torch.arange(NUM), gcn_edge_weights(graph)
    conv, some = GCNConv(1, 1, norm="right", bias=False), torch.Generator().manual_seed(0)
    draws = []
    for _ in range(400):
        [batch] = sampled_batches(graph, x, target, target, fanouts=[2], batch_size=NUM, generator=some, edge=edge)
        y = torch.empty(NUM, 1).index_copy_(0, batch.target, conv(batch.graph[0], batch.x, batch.edge[0]).detach())
        draws.append(y)
    draws, expected = torch.stack(draws), conv(graph, x, edge).detach()
    error = (draws.mean(0) - expected) / (draws.std(0) / 20 + 1e-6)
    assert error.abs().max() < 5
    assert draws.std(0).max() > 0.1


def test_an_epoch_contains_each_node_once_and_follows_its_generator(case):
    graph, x, target, some = case
    nodes = torch.arange(0, NUM, 2)

    def epoch(generator):
        return list(sampled_batches(graph, x, target, nodes, fanouts=[2, 3], batch_size=8, generator=generator))

    first, second = epoch(some), epoch(some)
    for batches in (first, second):
        assert [len(batch.target) for batch in batches] == [8, 8, 4]
        assert sorted(torch.cat([batch.target for batch in batches]).tolist()) == nodes.tolist()
        for batch in batches:
            assert torch.equal(batch.graph[-1].dstdata[dgl.NID], batch.target)
            assert torch.equal(batch.x, x[batch.graph[0].srcdata[dgl.NID]])
            assert all(block.in_degrees().max() <= fanout for block, fanout in zip(batch.graph, (2, 3), strict=True))
    assert not torch.equal(first[0].target, second[0].target)
    dgl.seed(5)
    again = torch.Generator().manual_seed(0)
    torch.randn(NUM, F, generator=again)
    for ours, theirs in zip([*first, *second], [*epoch(again), *epoch(again)], strict=True):
        assert torch.equal(ours.target, theirs.target)
        assert torch.equal(ours.graph[0].edata[dgl.EID], theirs.graph[0].edata[dgl.EID])


def test_a_resumed_training_ends_with_the_same_weights(case, tmp_path):
    graph, x, *_ = case
    label = torch.arange(NUM) % C

    class Killed(Exception):
        pass

    def train(path, kill=None):
        torch.manual_seed(0)
        some = torch.Generator().manual_seed(0)
        model = Stack.build(SAGEConv, F, 8, C, 2, norm=BatchNorm, dropout=0.5)

        def on_epoch(record):
            if record["epoch"] == kill:
                raise Killed

        fit(
            model,
            lambda: sampled_batches(graph, x, label, torch.arange(NUM), fanouts=[2, 2], batch_size=16, generator=some),
            cross_entropy,
            torch.optim.Adam(model.parameters(), lr=0.01),
            epochs=4,
            on_epoch=on_epoch,
            checkpoint=Checkpoint(tmp_path / path),
            generators=[some],
        )
        return model.state_dict()

    expected = train("uninterrupted")
    with pytest.raises(Killed):
        train("interrupted", kill=2)
    dgl.seed(99)
    weights = train("interrupted")
    assert all(torch.equal(weights[name], value) for name, value in expected.items())


def test_cluster_batches_contain_each_node_once_with_the_edges_among_them(case):
    graph, x, target, some = case
    cluster, edge = torch.arange(NUM) % 5, torch.rand(graph.num_edges())
    nodes = torch.arange(20)
    batches = list(cluster_batches(graph, x, target, nodes, cluster=cluster, batch_size=2, generator=some, edge=edge))
    assert sorted(torch.cat([batch.target for batch in batches]).tolist()) == nodes.tolist()
    for batch in batches:
        within = batch.graph.ndata[dgl.NID]
        assert torch.equal(batch.x, x[within])
        assert torch.equal(within[batch.rows], batch.target)
        src, dst = graph.edges()
        among = torch.isin(cluster[src], cluster[within]) & torch.isin(cluster[dst], cluster[within])
        assert sorted(batch.graph.edata[dgl.EID].tolist()) == among.nonzero().flatten().tolist()
        assert torch.equal(batch.edge, edge[batch.graph.edata[dgl.EID]])
    assert not list(cluster_batches(graph, x, target, nodes[:0], cluster=cluster, batch_size=2, generator=some))
    assert not clusters(graph, 1).any()
    with pytest.raises(ValueError, match="expected 1 to 40 clusters, one node in each, got 41"):
        clusters(graph, 41)


def test_metis_finds_cliques():
    clique = dgl.graph(tuple((1 - torch.eye(20)).nonzero().T))
    graph = dgl.add_edges(dgl.batch([clique] * 4), [0, 20, 40], [20, 40, 60])
    assignment = clusters(graph, 4).view(4, 20)
    assert torch.equal(assignment, assignment[:, :1].expand(4, 20))
    assert len(assignment[:, 0].unique()) == 4


@pytest.mark.parametrize(
    ("model", "kind", "error"),
    [
        (GCNConv(F, C), TypeError, r"expected a Stack of GNNLayer, got GCNConv of \[\]"),
        (Stack.build(SAGEConv, F, 8, C, 4, reversible=2), TypeError, r"got Stack of \['Reversible'\]"),
        (Stack.build(SAGEConv, F, 8, C, 2, readout=readout_mean), ValueError, "expected no readout"),
        (
            Stack.build(SAGEConv, F, 8, C, 2, norm=PairNorm),
            ValueError,
            r"treat nodes one by one, got PairNorm\(feats=8\)",
        ),
        (Stack.build(GCNConv, F, 8, C, 2), ValueError, r"expected GCNConv\(norm='right'\).*got norm='both'"),
    ],
)
def test_invalid_models_for_inference(case, model, kind, error):
    with pytest.raises(kind, match=error):
        layerwise_inference(model, *case[:2])


def test_inference_refuses_layers_of_several_hops(case):
    with pytest.raises(ValueError, match="APPNP: expected a graph with one node set"):
        layerwise_inference(Stack([GNNLayer(APPNP())]), *case[:2])


@pytest.mark.parametrize("remedy", REMEDIES)
def test_inference_with_layers_in_files(case, tmp_path, remedy):
    graph, x, *_ = case
    features = NpyMatrix(tmp_path / "x.npy", tuple(x.shape), x.numpy().dtype)
    features.write([x.numpy()])
    model = build("sage", remedy)
    outputs = layerwise_inference(model, graph, features, batch_size=9, folder=tmp_path)
    assert isinstance(outputs, NpyMatrix)
    assert torch.equal(outputs[torch.arange(NUM)], layerwise_inference(model, graph, x, batch_size=9))


def typed_case():
    graph = dgl.heterograph(
        {("user", "rates", "item"): ([0, 1, 2, 2], [0, 0, 1, 2]), ("item", "by", "user"): ([0, 1, 2], [1, 2, 0])},
        {"user": 4, "item": 3},
    )
    return graph, {"user": torch.rand(4, 5), "item": torch.arange(3)}


def typed_epoch(graph, x, target=None, nodes=None, **options):
    generator = torch.Generator().manual_seed(0)
    target, nodes = torch.arange(4) if target is None else target, torch.arange(4) if nodes is None else nodes
    options = {"fanouts": [-1, -1], "batch_size": 2, "ntype": "user", "generator": generator} | options
    return list(sampled_batches(graph, x, target, nodes, **options))


def test_samples_of_a_graph_with_types():
    """Features, node numbers and edge values by type are those of the sources and edges of the blocks."""
    graph, x = typed_case()
    weight = torch.rand(4)
    batches = typed_epoch(graph, x, edge={"rates": weight})
    assert torch.equal(torch.cat([batch.target for batch in batches]).sort()[0], torch.arange(4))
    for batch in batches:
        first, last = batch.graph
        assert torch.equal(batch.x["user"], x["user"][first.srcnodes["user"].data[dgl.NID]])
        assert torch.equal(batch.x["item"], first.srcnodes["item"].data[dgl.NID])
        assert torch.equal(last.dstnodes["user"].data[dgl.NID], batch.target)
        for block, edge in zip(batch.graph, batch.edge, strict=True):
            assert torch.equal(edge["rates"], weight[block.edges["rates"].data[dgl.EID]])
    again = typed_epoch(graph, x)
    assert [batch.target.tolist() for batch in again] == [batch.target.tolist() for batch in batches]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ntype": None}, "expected ntype, the type of the training nodes, with x by type, got none"),
        ({"ntype": "shop"}, r"expected ntype to be one of \['item', 'user'\], got 'shop'"),
        ({"x": torch.rand(4, 5)}, r"expected x to be a dict with the node types \['item', 'user'\], got Tensor"),
        ({"x": {"user": torch.rand(4, 5)}}, r"x to be a dict with the node types .*, got \['user'\]"),
        ({"x": {"user": torch.rand(4, 5), "item": torch.arange(2)}}, r"x\['item'\] of 3 rows, got 2"),
        ({"target": torch.arange(3)}, "target of 4 rows, got 3"),
        ({"edge": {"rates": torch.rand(3)}}, r"edge\['rates'\] of 4 rows, got 3"),
        ({"edge": {"buys": torch.rand(3)}}, r"relation_graph: expected one of the edge types .*, got 'buys'"),
        ({"nodes": torch.tensor([4])}, "nodes: expected .*4"),
    ],
)
def test_invalid_samples_of_a_graph_with_types(options, message):
    graph, x = typed_case()
    with pytest.raises((TypeError, ValueError, IndexError), match=message) as caught:
        typed_epoch(graph, **({"x": x} | options))
    assert "\n" not in str(caught.value)
