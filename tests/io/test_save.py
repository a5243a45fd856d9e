"""Saved models: a loaded model equals the saved one to the bit, and nothing outside the allowed names is loaded."""

import json
import os
import re
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import nn

import gnnlib
from gnnlib import (
    APPNP,
    DAGNN,
    BatchNorm,
    DenseConnection,
    DiffGroupNorm,
    DropEdge,
    DropMessage,
    DropNode,
    GNNLayer,
    GRUUpdate,
    InitialResidual,
    JumpingKnowledge,
    LayerNorm,
    MeanMaxReadout,
    MeanSubtraction,
    NodeNorm,
    PairNorm,
    PairNormSCS,
    Residual,
    SAGEConv,
    SkipInit,
    Stack,
    load_model,
    mean_heads,
    readout_mean,
    save_model,
)
from gnnlib import models as zoo
from gnnlib._platform.dgl import dgl
from gnnlib.grid import from_torch
from gnnlib.io.save import about_model
from gnnlib.nn.reparametrize import block_diagonal, circulant, identity_mapping, low_rank, share_parameters_
from gnnlib.testing.graphs import random_graph
from gnnlib.train import StochasticPasses
from tests.attack.kinds.models import seal_model

FEATS, NODES, EDGES = 8, 12, 40
GRAPH = random_graph(NODES, EDGES, seed=0)
GRAPH.ndata["pos"] = torch.rand(NODES, 2, generator=torch.Generator().manual_seed(0))


def heads(kind, in_feats, out_feats):
    return kind(in_feats, out_feats // 2, 2)


CONVS = {
    "gcn": gnnlib.GCNConv,
    "gin": partial(gnnlib.GINConv, learn_eps=True),
    "gin fixed": gnnlib.GINConv,
    "sage": gnnlib.SAGEConv,
    "gat": partial(heads, gnnlib.GATConv),
    "gatv2": partial(heads, partial(gnnlib.GATv2Conv, share_weights=True)),
    "sgc": partial(gnnlib.SGConv, k=2),
    "cheb": partial(gnnlib.ChebConv, k=3),
    "monet": partial(gnnlib.MoNetConv, dim=3, num_kernels=2),
    "ecc": partial(gnnlib.ECConv, edge_feats=3, hidden=4),
    "pred-edge": partial(gnnlib.PredEdgeConv, pos_feats=2, edge_activation=nn.Tanh()),
    "spline": partial(gnnlib.SplineConv, kernel_size=(3, 3)),
    "gated-gcn": partial(gnnlib.GatedGCNConv, edge_feats=3),
    "pna": partial(gnnlib.PNAConv, edge_feats=3),
    "message": partial(gnnlib.MessageConv, edge_feats=0),
    "drop-message": lambda i, o: DropMessage(gnnlib.GCNConv(i, o), 0.5),
    "g2": lambda i, o: gnnlib.GradientGating(gnnlib.GCNConv(i, o), gate=gnnlib.SAGEConv(i, o), p=3),
    "low-rank": lambda i, o: low_rank(gnnlib.GCNConv(i, o), 2),
    "grouped": lambda i, o: block_diagonal(gnnlib.SAGEConv(i, o), 2),
    "channels": lambda i, o: identity_mapping(circulant(gnnlib.GCNConv(i, o), 3), layer=2),
    "appnp": lambda i, o: APPNP(3, drop=nn.Dropout(0.2)),
    "dagnn": lambda i, o: DAGNN(o, 3),
}
REMEDIES = {
    "batchnorm": {"norm": BatchNorm, "skip": Residual, "dropout": 0.5, "readout": MeanMaxReadout},
    "pairnorm": {"norm": PairNorm, "skip": InitialResidual, "dropout": DropNode(0.5), "encoder": True},
    "scs": {"norm": PairNormSCS, "drop_edge": DropEdge(0.5)},
    "skipinit": {"norm": SkipInit, "skip": Residual},
    "linear": {"norm": BatchNorm, "skip": partial(Residual, linear=True), "norm_after_skip": True},
    "ffn": {"norm": BatchNorm, "skip": Residual, "feed_forward": gnnlib.FeedForward},
    "skipnode": {"skip": partial(gnnlib.SkipNode, p=0.3), "encoder": True},
    "mean": {"norm": MeanSubtraction, "skip": DenseConnection},
    "groups": {"norm": partial(DiffGroupNorm, groups=3), "skip": GRUUpdate, "activation": partial(nn.LeakyReLU, 0.1)},
    "instances": {"norm": partial(gnnlib.GraphNorm, mean_scale=False)},
    "contra": {"norm": gnnlib.ContraNorm},
    "nodes": {"norm": NodeNorm, "jump": JumpingKnowledge.lstm},
    "graphs": {"norm": gnnlib.GraphNorm, "jump": JumpingKnowledge.cat, "readout": readout_mean},
    "reversible": {"norm": LayerNorm, "reversible": 2},
    "checkpointed": {"checkpoint": True, "jump": JumpingKnowledge.max},
}


def run(model, *inputs, seed=0):
    torch.manual_seed(seed)
    return model(*inputs)


def with_readout(model, readout):
    model.readout = readout
    return model


def assert_same(model, folder, *inputs, **options):
    """The same outputs, in training too, where dropouts draw and running statistics move; the same state, as shared."""
    save_model(model, folder)
    same = load_model(folder, **options)
    assert not any(module.training for module in same.modules())
    was, now = model.state_dict(), same.state_dict()
    assert list(was) == list(now)
    assert all(torch.equal(was[name], now[name]) for name in was)
    trainable = [(name, p.requires_grad) for name, p in model.named_parameters()]
    assert [(name, p.requires_grad) for name, p in same.named_parameters()] == trainable
    private = re.findall(r'"gnnlib\.[\w.]*\._\w+"', (folder / "config.json").read_text())
    assert not private, "a saved model names public classes only"
    assert [type(m).__name__ for m in same.modules()] == [type(m).__name__ for m in model.modules()]
    for train in (True, False, True):
        torch.testing.assert_close(run(same.train(train), *inputs), run(model.train(train), *inputs), rtol=0, atol=0)
    return same


@pytest.mark.parametrize("name", CONVS)
def test_every_layer(name, tmp_path):
    torch.manual_seed(0)
    conv = CONVS[name](FEATS, FEATS)
    kind = getattr(conv, "takes_edge", None)
    edge = torch.rand(EDGES, 3) if kind == "feature" or name in ("monet", "ecc") else None
    assert_same(GNNLayer(conv), tmp_path, GRAPH, torch.randn(NODES, FEATS), edge)


@pytest.mark.parametrize("name", REMEDIES)
def test_every_remedy(name, tmp_path):
    torch.manual_seed(0)
    model = Stack.build(gnnlib.GCNConv, FEATS, FEATS, 3, num_layers=4, **REMEDIES[name])
    same = assert_same(model, tmp_path, GRAPH, torch.randn(NODES, FEATS))
    shared = [module for block in same.blocks for module in block.modules() if isinstance(module, DropNode | DropEdge)]
    assert len(set(shared)) <= 1 or name == "reversible", "one dropout serves all blocks"


@pytest.mark.parametrize("make", [zoo.SGC, zoo.GfNN, zoo.APPNPNet, zoo.DAGNNNet, zoo.JKNet, zoo.GCNII])
def test_networks_on_graphs(make, tmp_path):
    torch.manual_seed(0)
    widths = (FEATS, 3) if make is zoo.SGC else (FEATS, 16, 3)
    assert_same(make(*widths), tmp_path, GRAPH, torch.randn(NODES, FEATS))


def test_stochastic_passes(tmp_path):
    torch.manual_seed(0)
    model = StochasticPasses(Stack.build(gnnlib.GCNConv, FEATS, 16, 3, num_layers=2, dropout=0.5), 3)
    assert_same(model, tmp_path, GRAPH, torch.randn(NODES, FEATS))


def test_encoders_without_labels(tmp_path):
    torch.manual_seed(0)
    x = torch.randn(NODES, FEATS)
    encoder = Stack.build(gnnlib.GCNConv, FEATS, 16, 16, num_layers=2)
    assert_same(zoo.DGI(encoder, 16), tmp_path / "dgi", GRAPH, x)
    assert_same(zoo.GAE(encoder), tmp_path / "gae", GRAPH, x)


@pytest.mark.parametrize("make", [zoo.LeNet5, zoo.SmallCNN])
@pytest.mark.parametrize("graph", [False, True])
def test_networks_on_images(make, graph, tmp_path):
    torch.manual_seed(0)
    size = (1, 32, 32) if make is zoo.LeNet5 else (1, 28, 28)
    network = make()
    network = from_torch(network, size, backend="graph") if graph else network
    same = assert_same(network, tmp_path, torch.rand(2, *size))
    assert not graph or (same.backend, same.input_size) == ("graph", size)


def test_shared_weights_stay_shared_and_are_written_once(tmp_path):
    torch.manual_seed(0)
    model = Stack.build(gnnlib.GCNConv, FEATS, FEATS, 3, num_layers=6, encoder=True)
    share_parameters_(model.blocks)
    model.head[1].requires_grad_(False)
    same = assert_same(model, tmp_path, GRAPH, torch.randn(NODES, FEATS))
    assert same.blocks[0].conv.weight is same.blocks[4].conv.weight
    names = safetensors.torch.load_file(tmp_path / "model.safetensors")
    assert [name for name in names if "blocks" in name] == ["blocks.0.conv.bias", "blocks.0.conv.weight"]


def test_changes_after_construction_are_saved(tmp_path):
    model = Stack.build(partial(heads, gnnlib.GATConv), FEATS, FEATS, 3, num_layers=2, head=True)
    model.encoder, model.readout = nn.Sequential(nn.Linear(4, FEATS), nn.Tanh()), partial(readout_mean)
    model.blocks[0].merge = mean_heads
    model.blocks[1] = GNNLayer(gnnlib.GCNConv(FEATS // 2, FEATS))
    model.double()
    same = assert_same(model, tmp_path, GRAPH, torch.randn(NODES, 4, dtype=torch.float64))
    assert same.blocks[0].merge is mean_heads


def test_a_loaded_model_trains_and_is_saved_again(tmp_path):
    torch.manual_seed(0)
    model = Stack.build(gnnlib.GCNConv, FEATS, FEATS, 3, num_layers=3, norm=BatchNorm)
    save_model(model, tmp_path, about={"epoch": 1})
    again = load_model(tmp_path).train()
    again(GRAPH, torch.randn(NODES, FEATS)).sum().backward()
    torch.optim.SGD(again.parameters(), 0.1).step()
    save_model(again, tmp_path, about={"epoch": 2})
    assert about_model(tmp_path) == {"epoch": 2}
    assert torch.equal(load_model(tmp_path).blocks[0].conv.weight, again.blocks[0].conv.weight)
    assert sorted(os.listdir(tmp_path)) == ["config.json", "model.safetensors"]


# ---------------------------------------------------------------- invalid models and folders


class Custom(nn.Module):
    def forward(self, graph, x):
        return x


def doubled(graph, x):
    return 2 * x


@pytest.fixture
def saved(tmp_path):
    save_model(Stack.build(gnnlib.GCNConv, FEATS, FEATS, 3, num_layers=2), tmp_path)
    return tmp_path


def edit(folder, old, new):
    path = folder / "config.json"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    seal_model(folder)


def test_safe_globals(tmp_path):
    model = Stack([GNNLayer(Custom())], readout=doubled)
    save_model(model, tmp_path)
    with pytest.raises(
        ValueError, match=r"config.json: .*got tests.io.test_save.Custom; if you trust it: safe_globals=\[Custom\]"
    ):
        load_model(tmp_path)
    with pytest.raises(ValueError, match=r"readout: .*got tests.io.test_save.doubled; .* safe_globals=\[doubled\]"):
        load_model(tmp_path, safe_globals=[Custom])
    assert_same(model, tmp_path, GRAPH, torch.ones(NODES, 2), safe_globals=[Custom, doubled])


READOUTS = ["readout_flat", "readout_max", "readout_mean", "readout_mean_max", "readout_sum"]


@pytest.mark.parametrize("name", [*READOUTS, "concat_heads", "mean_heads", "one_hot", "aggregate", "edge_softmax"])
def test_functions_of_tensors(name, tmp_path):
    function = getattr(gnnlib, name)
    save_model(Stack([], readout=function), tmp_path)
    assert load_model(tmp_path).readout is function


@pytest.mark.parametrize(
    "name",
    [
        "os.system",
        "builtins.eval",
        "gnnlib.train.layerwise._load",
        "gnnlib.io.save.os.system",
        "gnnlib.train.checkpoints.atomic_write",
    ]
    + [
        "gnnlib._utils.files.atomic_write",
        "gnnlib.train.checkpoints.Checkpoint",
        "torch.nn.NoSuchLayer",
        "gnnlib.nowhere.GCNConv",
    ]
    + ["gnnlib.nn.conv.gcn.GCNConv", "torch.load", "gnnlib.train.layerwise.get_context", "torch.nn.functional.torch"]
    + [
        "gnnlib.save_model",
        "gnnlib.images.images_to_store",
        "gnnlib.nn.stack._run",
        "gnnlib.readout_mean",
        "gnnlib",
        "",
    ],
)
def test_other_names_are_refused(saved, name):
    edit(saved, '"gnnlib.GCNConv"', json.dumps(name))
    with pytest.raises(ValueError, match=f"config.json: blocks.0.conv: expected .*, got {name}"):
        load_model(saved)


@pytest.mark.parametrize(
    ("part", "message"),
    [
        (
            lambda: Stack([], readout=lambda graph, x: x),
            r"readout: expected an importable class or function, got .*<lambda>",
        ),
        (
            lambda: with_readout(Stack([]), torch.Generator()),
            r"readout: expected modules, tensors, .*, got <torch._C.Gen",
        ),
        (
            lambda: Stack([GNNLayer(type("Inner", (Custom,), {})())]),
            r"blocks.0.conv: expected an importable class or function, got .*In",
        ),
    ],
)
def test_a_part_that_cannot_be_saved_is_named_before_anything_is_written(part, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        save_model(part(), tmp_path)
    assert not any(tmp_path.iterdir())


def test_hooks_are_refused(tmp_path):
    model = Stack.build(gnnlib.GCNConv, FEATS, FEATS, 3, num_layers=2)
    model.blocks[1].register_forward_hook(print)
    with pytest.raises(
        ValueError, match=r"blocks.1: expected a module without hooks, got GNNLayer with _forward_hooks"
    ):
        save_model(model, tmp_path)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
@pytest.mark.parametrize("damage", [lambda b: b[:-30], lambda b: b[:5], lambda b: b"", lambda b: b"[1]", None])
def test_damaged_or_missing_files_are_named(saved, name, damage):
    path = saved / name
    if damage is None:
        path.unlink()
    else:
        path.write_bytes(damage(path.read_bytes()))
    error, message = (FileNotFoundError, name) if damage is None else (ValueError, rf"{path} is damaged")
    with pytest.raises(error, match=message):
        load_model(saved)


def test_a_format_of_another_version(saved):
    edit(saved, '"format": 2', '"format": 3')
    version = re.escape(gnnlib.__version__)
    with pytest.raises(ValueError, match=rf"config.json: expected format 2, got 3, written by gnnlib {version}$"):
        load_model(saved)


def test_format_1(saved):
    edit(saved, '"format": 2', '"format": 1')
    message = (
        r"expected format 2, got 1, written by gnnlib .*; format 1 names modules .* train the model again, or load"
    )
    with pytest.raises(ValueError, match=message):
        load_model(saved)
    with pytest.raises(ValueError, match=message):
        about_model(saved)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("blocks.0.conv.weight"), "expected a tensor blocks.0.conv.weight, got none"),
        (lambda t: t.update(more=torch.ones(1)), r"and unused: \['more'\]"),
        (
            lambda t: t.update({"blocks.1.conv.weight": torch.ones(9, 3)}),
            r"blocks.1.conv.weight: expected shape \(8, 3\) of torch.float32, got \(9, 3\)",
        ),
        (
            lambda t: t.update({"blocks.1.conv.weight": torch.ones(8, 3).half()}),
            r"blocks.1.conv.weight: expected .* of torch.float32, got \(8, 3\) of torch.float16",
        ),
    ],
)
def test_weights_that_do_not_fit(saved, change, message):
    path = saved / "model.safetensors"
    tensors = safetensors.torch.load_file(path)
    change(tensors)
    safetensors.torch.save_file(tensors, path)
    seal_model(saved)
    with pytest.raises(ValueError, match=message):
        load_model(saved)


def test_a_full_disk_leaves_the_model_that_was_there(saved, monkeypatch):
    before = {path.name: path.read_bytes() for path in saved.iterdir()}

    def full(path, content):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        with pytest.raises(OSError, match=r"No space left on device: '.*model.safetensors'"):
            save_model(gnnlib.GCNConv(2, 2), saved)
    assert {path.name: path.read_bytes() for path in saved.iterdir()} == before


@pytest.mark.parametrize(
    "layer",
    [
        lambda: nn.Linear(np.int64(5), np.int32(3)),
        lambda: gnnlib.Linear(np.uint8(5), 3, bias=np.bool_(False)),
        lambda: nn.Sequential(
            nn.Linear(5, 3), nn.Dropout(np.float32(0.5)), nn.LayerNorm(np.int64(3), eps=np.float32(0.1))
        ),
    ],
)
def test_numbers_of_numpy(layer, tmp_path):
    """Modules of PyTorch keep the numbers of their arguments as they come."""
    x, model = torch.randn(2, 5), layer().eval()
    save_model(model, tmp_path)
    loaded = load_model(tmp_path)
    assert torch.equal(loaded(x), model(x))
    assert not [value for part in loaded.modules() for value in vars(part).values() if isinstance(value, np.generic)]


@pytest.mark.parametrize("aggregate", ["sum", "max", "min", "mean", "stack"])
def test_typed_networks_load_without_a_list(aggregate, tmp_path):
    """`dgl.nn.HeteroGraphConv` and its functions are trusted; DGL's other classes are named with what to write."""
    graph = dgl.heterograph({("user", "rates", "item"): ([0, 1], [0, 1]), ("item", "by", "user"): ([1, 0], [0, 1])})
    layers = {etype: SAGEConv(3, 4) for etype in graph.etypes}
    model = dgl.nn.HeteroGraphConv(layers, aggregate=aggregate)
    x = {"user": torch.randn(2, 3), "item": torch.randn(2, 3)}
    save_model(model, tmp_path)
    actual, expected = load_model(tmp_path)(graph, x), model(graph, x)
    assert all(torch.equal(actual[name], expected[name]) for name in expected)
    save_model(nn.Sequential(dgl.nn.SAGEConv(3, 4, "mean")), tmp_path / "other")
    with pytest.raises(ValueError, match=r"got dgl.nn.SAGEConv; if you trust it: safe_globals=\[SAGEConv\]"):
        load_model(tmp_path / "other")
