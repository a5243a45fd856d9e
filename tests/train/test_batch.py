"""Data of `fit`, `evaluate` and `predict`: each form gives the batches that a user would make by hand."""

from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

import gnnlib
from gnnlib import BatchNorm, GCNConv, GINEConv, GraphStore, MeanReadout, Stack, evaluate, fit, predict
from gnnlib._platform.dgl import dgl
from gnnlib.large import cluster_batches, sampled_batches
from gnnlib.testing.graphs import random_graph
from gnnlib.train import Batch, StochasticPasses
from gnnlib.train.batch import Columns, as_batches, for_model

MASK = torch.arange(20) % 3 == 0


def graph(seed=0, nodes=20):
    torch.manual_seed(seed)
    g = dgl.add_self_loop(random_graph(nodes, 3 * nodes, seed=seed))
    g.ndata["feat"], g.ndata["label"] = torch.randn(nodes, 4), torch.arange(nodes) % 3
    return g


def net(seed=0, **options):
    torch.manual_seed(seed)
    return Stack.build(GCNConv, 4, 8, 3, num_layers=2, **options)


def trained(data, model=None, **options):
    """The weights and records after three epochs from the same seeds."""
    model = model or net()
    torch.manual_seed(1)
    history = fit(model, data, epochs=3, **options)
    return list(history), torch.cat([p.detach().flatten() for p in model.parameters()])


def assert_same(one, other):
    assert one[0] == other[0]
    assert torch.equal(one[1], other[1])


ROWS = {
    "mask": MASK,
    "numbers": MASK.nonzero().flatten(),
    "list": MASK.nonzero().flatten().tolist(),
    "booleans": MASK.tolist(),
    "numpy": MASK.numpy(),
    "numpy numbers": np.flatnonzero(MASK.numpy()).astype(np.int32),
    "negative": MASK.nonzero().flatten() - 20,
    "name": "some",
}


@pytest.mark.parametrize("rows", ROWS)
def test_rows_as_masks_numbers_and_names_train_the_same(rows):
    g = graph()
    g.ndata["some"] = MASK
    expected = trained(Batch(g, g.ndata["feat"], g.ndata["label"][MASK], rows=MASK))
    assert_same(trained(Batch.from_graph(g, rows=ROWS[rows])), expected)
    if rows != "name":
        assert_same(trained(Batch(g, g.ndata["feat"], g.ndata["label"][MASK], rows=ROWS[rows])), expected)


def test_masks_of_a_graph_are_its_parts():
    g, model = graph(), net()
    g.ndata["train_mask"], g.ndata["val_mask"], g.ndata["test_mask"] = (torch.arange(20) % 4 == i for i in range(3))
    parts = [Batch.from_graph(g, rows=f"{part}_mask") for part in ("train", "val", "test")]
    assert_same(trained(g), trained(parts[0], val=parts[1]))
    assert evaluate(model, g) == evaluate(model, parts[2])
    assert torch.equal(predict(model, g), model.eval()(g, g.ndata["feat"]))


FORMS = {
    "batch": lambda g: Batch(g, g.ndata["feat"], g.ndata["label"]),
    "list": lambda g: [g],
    "function": lambda g: lambda: [Batch(g, g.ndata["feat"], g.ndata["label"])],
    "pair": lambda g: (g, g.ndata["label"]),
    "loader of pairs": lambda g: [(g, g.ndata["label"])],
    "numpy": lambda g: Batch(g, g.ndata["feat"].numpy(), g.ndata["label"].numpy()),
    "float64": lambda g: Batch(g, g.ndata["feat"].double(), g.ndata["label"]),
    "short classes": lambda g: Batch(g, g.ndata["feat"], g.ndata["label"].short()),
    "column of classes": lambda g: Batch(g, g.ndata["feat"], g.ndata["label"].unsqueeze(1)),
}


@pytest.mark.parametrize("form", FORMS)
def test_each_form_of_a_graph_trains_and_predicts_the_same(form):
    g = graph()
    data, expected = FORMS[form](g), g
    assert_same(trained(data), trained(expected))
    assert torch.equal(predict(net(), data), predict(net(), expected))
    assert evaluate(net(), data) == evaluate(net(), expected)


def test_names_of_columns():
    g = graph()
    other = dgl.graph(g.edges(), num_nodes=20)
    other.ndata["h"], other.ndata["y"], other.edata["w"] = g.ndata["feat"], g.ndata["label"], torch.rand(g.num_edges())
    names = {"feature": "h", "label": "y", "edge": "w"}
    assert_same(trained(other, **names), trained(Batch(g, g.ndata["feat"], g.ndata["label"], other.edata["w"])))
    assert torch.equal(predict(net(), other, "h", edge="w"), net().eval()(g, g.ndata["feat"], other.edata["w"]))


def store(labels=None, edges=False):
    graphs = [graph(seed, 8 + seed) for seed in range(10)]
    for g in graphs:
        del g.ndata["label"]
        if edges:
            g.edata["feat"] = torch.rand(g.num_edges(), 2)
    return GraphStore(graphs, labels=torch.arange(10) % 3 if labels is None else labels)


def test_a_store_is_its_loader():
    """In random order in training, in order otherwise; a list of graphs is batched."""
    data, model = store(), net(readout=MeanReadout)
    assert_same(
        trained(data, net(readout=MeanReadout)), trained(data.loader(32, shuffle=True), net(readout=MeanReadout))
    )
    assert torch.equal(predict(model, data, batch_size=3), predict(model, list(data), batch_size=3))
    alone = torch.cat([model.eval()(g, g.ndata["feat"]) for g in data])
    torch.testing.assert_close(predict(model, data.loader(4)), alone)
    torch.testing.assert_close(predict(model, data), alone)
    assert evaluate(model, data) == evaluate(model, [(data.batch(range(10)), data.labels)])


def test_edge_features_of_a_store():
    data = store(torch.rand(10), edges=True)
    make = partial(GINEConv, edge_feats=2)
    torch.manual_seed(0)
    model = Stack.build(make, 4, 8, 1, num_layers=2, readout=MeanReadout)
    history = fit(model, data, epochs=2, edge="feat")
    assert history[1]["loss"] < history[0]["loss"]
    g = data.batch(range(10))
    torch.testing.assert_close(predict(model, data, edge="feat"), model.eval()(g, g.ndata["feat"], g.edata["feat"]))


def test_targets_of_edges():
    class Pairs(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(8, 2)

        def forward(self, graph, x):
            src, dst = graph.edges()
            return self.linear(torch.cat([x[src], x[dst]], 1))

    g = graph()
    del g.ndata["label"]
    g.edata["label"] = (g.edges()[0] > g.edges()[1]).long()
    g.edata["train_mask"] = torch.rand(g.num_edges()) < 0.5
    g.edata["test_mask"] = ~g.edata["train_mask"]
    history = fit(Pairs(), g, epochs=20)
    assert history[-1]["loss"] < history[0]["loss"]
    assert evaluate(Pairs(), g).confusion.sum() == g.edata["test_mask"].sum()


def test_sampled_and_clustered_batches_and_the_loader_of_dgl():
    g = graph()
    nodes, x, label = torch.arange(0, 20, 2), g.ndata["feat"], g.ndata["label"]
    cluster = torch.arange(20) % 2

    def sampled(generator):
        return sampled_batches(g, x, label, nodes, fanouts=[-1, -1], batch_size=5, generator=generator)

    def clustered(generator):
        return cluster_batches(g, x, label, nodes, cluster=cluster, batch_size=1, generator=generator)

    for make in (sampled, clustered):
        generator = torch.Generator().manual_seed(0)
        history = fit(net(), lambda make=make, generator=generator: make(generator), epochs=10, generators=[generator])
        assert history[-1]["loss"] < history[0]["loss"]
    loader = dgl.dataloading.DataLoader(
        g, nodes, dgl.dataloading.MultiLayerFullNeighborSampler(2), batch_size=5, shuffle=False
    )
    conv = partial(GCNConv, norm="right")
    torch.manual_seed(0)
    model = Stack.build(conv, 4, 8, 3, num_layers=2)
    torch.testing.assert_close(predict(model, loader), model.eval()(g, x)[nodes])
    assert fit(model, loader, epochs=2)[1]["loss"] > 0


class PlainGraph(nn.Linear):
    def forward(self, graph, x):
        return super().forward(x)


class WithFlag(nn.Linear):
    def forward(self, graph, x, scale=2.0):
        return scale * super().forward(x)


class Weighted(nn.Linear):
    def forward(self, g, h, e):
        return super().forward(h) + e.sum()


def test_models_are_called_as_their_forward_takes_it():
    g = graph()
    x, y, w = g.ndata["feat"], g.ndata["label"], torch.rand(g.num_edges())
    for model, edge, expected in (
        (PlainGraph(4, 3), None, lambda m: nn.functional.linear(x, m.weight, m.bias)),
        (nn.Linear(4, 3), None, lambda m: m(x)),
        (WithFlag(4, 3), None, lambda m: m(g, x)),
        (Weighted(4, 3), w, lambda m: m(g, x, w)),
        (dgl.nn.GraphConv(4, 3), w, lambda m: m(g, x, edge_weight=w)),
        (dgl.nn.GraphConv(4, 3), None, lambda m: m(g, x)),
        (StochasticPasses(PlainGraph(4, 3), 2), None, lambda m: m.eval()(g, x)),
    ):
        batch = Batch(g, x, y, edge)
        assert torch.equal(predict(model, batch), expected(model).detach()), type(model)
        if not isinstance(model, StochasticPasses):
            assert len(fit(model, batch, epochs=1)) == 1


def test_a_batch_moves_whole():
    """To a device without data: graph, blocks, pairs and lists; what is there already is shared."""
    g = graph()
    x, weight = g.ndata["feat"], torch.rand(g.num_edges(), dtype=torch.float64)
    batch = Batch(g, (x, x), g.ndata["label"], [weight], torch.arange(3))
    assert batch.to("cpu").graph is g
    same = batch.to(dtype=torch.float32)
    assert same.x[0] is x
    assert (same.edge[0].dtype, same.target.dtype) == (torch.float32, torch.int64)
    moved = batch._replace(graph=None).to("meta")
    assert {t.device.type for t in (*moved.x, moved.target, *moved.edge, moved.rows)} == {"meta"}


def test_whole_graphs_are_prepared_once_and_batches_are_not_kept():
    calls = []

    def prepare(batch):
        calls.append(batch)
        return batch

    g = graph()
    batches = as_batches("fit", [g, g], Columns(), prepare, "train")
    assert [list(batches()) for _ in range(3)]
    assert len(calls) == 2
    batches = as_batches("fit", lambda: [g, g], Columns(), prepare, "train")
    assert [len(list(batches())) for _ in range(3)] == [2, 2, 2]
    assert len(calls) == 2 + 6


def test_batches_follow_the_floating_point_type_of_the_model():
    g = graph()
    batch = for_model(net().double(), None)(Batch(g, g.ndata["feat"], torch.rand(20)))
    assert (batch.x.dtype, batch.target.dtype) == (torch.float64, torch.float64)
    assert batch.graph is g
    assert for_model(gnnlib.nn.Dropout(), None)(batch).x is batch.x


def test_batch_norm_sees_the_batches_of_a_store():
    torch.manual_seed(0)
    model = Stack.build(GCNConv, 4, 8, 3, num_layers=2, norm=BatchNorm, readout=MeanReadout)
    fit(model, store().loader(5), epochs=4)
    assert model.blocks[0].norm.num_batches_tracked == 8
