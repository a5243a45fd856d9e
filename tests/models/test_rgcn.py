"""RGCN on a graph with types: dense matrices, OGB's number of parameters, sampled blocks, training."""

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

import gnnlib
from gnnlib._platform.dgl import dgl
from gnnlib.graph import Graph
from gnnlib.large import sampled_batches
from gnnlib.models import RGCN

SIZES = {"author": 6, "paper": 9, "topic": 3}
MAG = {"author": 1_134_649, "field_of_study": 59_965, "institution": 8_740, "paper": 736_389}
MAG_EDGES = [
    ("author", "affiliated_with", "institution"),
    ("author", "writes", "paper"),
    ("paper", "cites", "paper"),
    ("paper", "has_topic", "field_of_study"),
]
MAG_EDGES += [(end, f"rev_{name}", start) for start, name, end in MAG_EDGES if start != end]


def edges():
    generator = torch.Generator().manual_seed(0)
    pairs = {
        ("author", "writes", "paper"): (6, 9, 14),
        ("paper", "cites", "paper"): (9, 9, 12),
        ("topic", "of", "paper"): (3, 9, 9),
    }
    pairs = {
        etype: tuple(torch.randint(n, (num,), generator=generator) for n in (src, dst))
        for etype, (src, dst, num) in pairs.items()
    }
    return pairs | {
        (end, f"rev_{name}", start): pair[::-1] for (start, name, end), pair in pairs.items() if start != end
    }


def model(**options):
    torch.manual_seed(0)
    options = {"ntype": "paper", "embeddings": {"author": 6, "topic": 3}, "dropout": 0.0} | options
    return RGCN(list(edges()), 4, 5, 2, **options).double()


@pytest.mark.parametrize("kind", ["dgl", "graph"])
@pytest.mark.parametrize("num_layers", [1, 3])
def test_equals_dense_matrices(kind, num_layers):
    graph = dgl.heterograph(edges(), SIZES) if kind == "dgl" else Graph(edges(), SIZES)
    net, x = model(num_layers=num_layers), torch.randn(9, 4, dtype=torch.float64)
    h = {"author": net.embeddings["author"].weight, "topic": net.embeddings["topic"].weight, "paper": x}
    for number, layer in enumerate(net.layers):
        y = {ntype: layer.self_layers[ntype](h[ntype]) for ntype in SIZES}
        for etype, (src, dst) in edges().items():
            dense = torch.zeros(SIZES[etype[2]], SIZES[etype[0]], dtype=torch.float64)
            dense.index_put_((dst, src), torch.ones(len(src), dtype=torch.float64), accumulate=True)
            mean = dense / dense.sum(1, keepdim=True).clamp(min=1)
            y[etype[2]] = y[etype[2]] + mean @ h[etype[0]] @ layer.convs["__".join(etype)].weight
        h = y if number == num_layers - 1 else {ntype: value.relu() for ntype, value in y.items()}
    torch.testing.assert_close(net(graph, {"paper": x}), h["paper"], rtol=0, atol=1e-12)


def test_parameters_on_mag_are_those_of_ogb():
    """154,366,772 on OGB's leaderboard, "NeighborSampling (R-GCN aggr)"; on the device meta, without memory."""
    with torch.device("meta"):
        embeddings = {ntype: num for ntype, num in MAG.items() if ntype != "paper"}
        net = RGCN(MAG_EDGES, 128, 64, 349, ntype="paper", embeddings=embeddings)
    assert sum(p.numel() for p in net.parameters()) == 154_366_772


def test_samples_of_all_neighbours_are_the_graph():
    graph, net = dgl.heterograph(edges(), SIZES), model()
    x = {"paper": torch.randn(9, 4, dtype=torch.float64), "author": torch.arange(6), "topic": torch.arange(3)}
    options = {"fanouts": [-1, -1], "batch_size": 4, "ntype": "paper", "generator": torch.Generator().manual_seed(0)}
    batches = list(sampled_batches(graph, x, torch.arange(9), torch.arange(9), **options))
    assert torch.equal(torch.cat([batch.target for batch in batches]).sort()[0], torch.arange(9))
    expected = net(graph, {"paper": x["paper"]})
    for batch in batches:
        torch.testing.assert_close(net(batch.graph, batch.x), expected[batch.target])


def test_embeddings_are_trained_on_samples():
    """Papers have no features. Their labels are those of their authors, whose embeddings are learned."""
    generator = torch.Generator().manual_seed(0)
    author, label = torch.randint(3, (30,), generator=generator), torch.arange(120) % 3
    writes = (author[:, None] == label).nonzero()[torch.randperm(1200, generator=generator)[:500]].T
    graph = dgl.heterograph(
        {("author", "writes", "paper"): tuple(writes), ("paper", "by", "author"): tuple(writes.flip(0))},
        {"author": 30, "paper": 120},
    )
    x = {"author": torch.arange(30), "paper": torch.zeros(120, 4)}
    torch.manual_seed(0)
    net = RGCN(graph.canonical_etypes, 4, 8, 3, num_layers=1, ntype="paper", embeddings={"author": 30})
    train, test = torch.randperm(120, generator=generator).split([60, 60])

    def batches():
        options = {"fanouts": [5], "batch_size": 20, "ntype": "paper", "generator": generator}
        return sampled_batches(graph, x, label, train, **options)

    gnnlib.fit(net, batches, cross_entropy, torch.optim.Adam(net.parameters(), lr=0.05), epochs=12)
    net.eval()
    assert (net(graph, x).argmax(1) == label)[test].double().mean() > 0.8


def test_parameters_and_repr():
    torch.manual_seed(0)
    net = RGCN(list(edges()), 4, 5, 2, ntype="paper", embeddings={"author": 6})
    before = [p.detach().clone() for p in net.parameters()]
    torch.manual_seed(0)
    net.reset_parameters()
    assert all(torch.equal(a, b) for a, b in zip(before, net.parameters(), strict=True))
    assert "4, 5, 2" in net.extra_repr()
    assert "ntype='paper'" in net.extra_repr()
    assert isinstance(net.embeddings["author"], nn.Embedding)


GRAPH = Graph(edges(), SIZES)
X = {"paper": torch.zeros(9, 4)}


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: model(ntype="venue"), r"RGCN: expected node types among \['author', 'paper', 'topic'\], got 'venue'"),
        (lambda: model(embeddings={"venue": 2}), "RGCN: expected node types among .*, got 'venue'"),
        (lambda: model(num_layers=0), "RGCN: expected num_layers >= 1, got 0"),
        (lambda: model(dropout=2.0), "RGCN: expected a probability dropout from 0 to 1, got 2.0"),
        (lambda: model()([GRAPH], X), "RGCN: expected 2 blocks, one per layer, got 1"),
        (lambda: model(embeddings={})(GRAPH, X), r"features of the node types \['author', 'topic'\], got \['paper'\]"),
    ],
)
def test_one_sentence(call, message):
    with pytest.raises(ValueError, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)
