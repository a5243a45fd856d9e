"""The tables of the guide say what the library does."""

import pytest
import torch

from docs import layers
from gnnlib._platform.dgl import dgl


@pytest.mark.slow
def test_table_of_layers():
    page = layers.PAGE.read_text("utf-8")
    assert layers.with_tables(page) == page
    assert "| `GCNConv` |" in page


@pytest.mark.parametrize("name", layers.LAYERS)
def test_messages_go_from_source_to_destination(name):
    """As the page says of all layers: a source does not depend on the destination of its edge."""
    conv = layers.LAYERS[name][0]().double()
    graph = dgl.graph(([0, 0, 1], [1, 0, 1]))
    graph.ndata["pos"] = torch.tensor([[0.0, 0.0], [0.5, 0.5]], dtype=torch.double)
    graph.edata["_TYPE"] = torch.tensor([0, 1, 2])
    edge = (torch.ones(3, 8, dtype=torch.double),) if conv.takes_edge == "feature" else ()
    x = torch.rand(2, 64, dtype=torch.double, requires_grad=True)
    (of_source,) = torch.autograd.grad(conv(graph, x, *edge)[0].sum(), x, materialize_grads=True)
    (of_destination,) = torch.autograd.grad(conv(graph, x, *edge)[1].square().sum(), x)
    assert bool((of_source[1] == 0).all())
    assert bool((of_destination[0] != 0).any())


def test_table_has_every_layer():
    from gnnlib.nn import conv

    assert set(layers.LAYERS) == set(conv.__all__) - {"Conv"}
