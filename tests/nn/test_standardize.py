"""Standardisation: against numpy and scikit-learn, on graphs, batches and stores, and saved with the model."""

import numpy as np
import pytest
import torch
from torch import nn

from gnnlib import GCNConv, GraphStore, Stack, Standardize, load_model, save_model
from gnnlib._platform.dgl import dgl
from gnnlib.nn import standardize

GRAPHS = [dgl.rand_graph(n, 3 * n) for n in (5, 9, 7)]
for number, graph in enumerate(GRAPHS):
    generator = torch.Generator().manual_seed(number)
    graph.ndata["feat"] = 50 + 3 * torch.randn(graph.num_nodes(), 4, generator=generator)
    graph.ndata["feat"][:, 2] = 7.0
X = torch.cat([graph.ndata["feat"] for graph in GRAPHS])


class Features(nn.Module):
    def forward(self, graph, x, edge=None):
        return x if edge is None else (x, edge)


@pytest.mark.parametrize("data", [GraphStore(GRAPHS), dgl.batch(GRAPHS), X], ids=["store", "batch", "tensor"])
def test_columns_have_mean_0_and_deviation_1(data, monkeypatch):
    monkeypatch.setattr(standardize, "ROWS", 4)
    model = Standardize.fit(Features(), data)
    expected = X.double().numpy()
    np.testing.assert_allclose(model.mean, expected.mean(0), rtol=1e-6)
    np.testing.assert_allclose(model.std, np.where(np.arange(4) == 2, 1.0, expected.std(0)), rtol=1e-5)
    x = model(None, X).double()
    assert x.mean(0).abs().max() < 1e-4
    assert x.std(0, correction=0).tolist() == pytest.approx([1, 1, 0, 1], abs=1e-5)


def test_fitted_on_the_training_graphs_alone():
    store = GraphStore(GRAPHS)
    expected = GRAPHS[2].ndata["feat"].mean(0)
    torch.testing.assert_close(Standardize.fit(Features(), store.select([2])).mean, expected)


def test_edges_are_passed_on_and_signals_standardised():
    model = Standardize.fit(Features(), X)
    edge = torch.ones(3, 1)
    assert model(None, X, edge)[1] is edge
    torch.testing.assert_close(model(None, X[:, None].expand(-1, 2, -1))[:, 1], model(None, X))


def test_trained_and_saved_with_the_model(tmp_path):
    model = Standardize.fit(Stack.build(GCNConv, 4, 8, 3, num_layers=2), GraphStore(GRAPHS))
    before = model.mean.clone()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, weight_decay=0.5)
    model(GRAPHS[0], GRAPHS[0].ndata["feat"]).square().sum().backward()
    optimizer.step()
    assert torch.equal(model.mean, before)
    save_model(model, tmp_path)
    loaded = load_model(tmp_path)
    batch = dgl.batch(GRAPHS)
    assert torch.equal(loaded(batch, X), model.eval()(batch, X))
    assert torch.equal(loaded.mean, before)


def test_invalid_arguments():
    with pytest.raises(TypeError, match=r"Standardize: expected a module, got <class '.*Features'>"):
        Standardize.fit(Features, X)
    with pytest.raises(TypeError, match=r"expected a GraphStore, a graph or a tensor \(N, F\), got list"):
        Standardize.fit(Features(), GRAPHS)
    for mean, std in ((torch.zeros(2), torch.ones(3)), (torch.zeros(1, 2), torch.ones(1, 2)), (X[0], -X[0]),
                      (torch.full((2,), torch.nan), torch.ones(2))):  # fmt: skip
        with pytest.raises(ValueError, match="Standardize: expected finite mean and std of one shape"):
            Standardize(Features(), mean, std)
    with pytest.raises(KeyError, match=r"Standardize: expected graphs with 'x', got \['feat'\]"):
        Standardize.fit(Features(), GraphStore(GRAPHS), "x")
    with pytest.raises(ValueError, match=r"expected features \(N, F\) of floating point, got torch.int64 \(21, 4\)"):
        Standardize.fit(Features(), X.long())
    with pytest.raises(ValueError, match="expected finite mean and std"):
        Standardize.fit(Features(), torch.tensor([[0.0], [torch.inf]]))
    with pytest.raises(ValueError, match=r"Standardize: expected x of shape \(N, ..., 4\), got \(21, 3\)"):
        Standardize.fit(Features(), X)(None, X[:, :3])
