"""Folders of models that somebody else wrote: loading them executes nothing, whatever they hold."""

import json
import random

import pytest
import torch
from torch import nn

import gnnlib
from gnnlib import load_model, save_model
from gnnlib.io.structure import MAX_DEPTH
from gnnlib.testing.graphs import random_graph
from tests.attack.audit import audited
from tests.attack.kinds.models import (
    DONORS,
    FEATS,
    HIDING,
    MODELS,
    NAMES,
    SHELL,
    TEXTS,
    network,
    outputs,
    seal_model,
)
from tests.attack.mutators import mutated


@pytest.fixture(params=MODELS)
def saved(request, tmp_path):
    """A folder, its config, and the function that writes a config in its place."""
    save_model(MODELS[request.param](), tmp_path)
    load_model(tmp_path)  # what is imported at the first call is imported now

    def write(config):
        (tmp_path / "config.json").write_text(json.dumps(config))
        seal_model(tmp_path)
        return tmp_path

    return request.param, json.loads((tmp_path / "config.json").read_text()), write


def test_loading_opens_two_files_and_nothing_else(saved):
    name, config, write = saved
    folder = write(config)
    with audited(folder):
        model = load_model(folder)
    outputs(name, model)


@pytest.mark.parametrize("section", ["attributes", "tensors", "modules"])
@pytest.mark.parametrize("hidden", HIDING)
def test_nothing_of_a_class_is_hidden(saved, section, hidden):
    _, config, write = saved
    spec = root(config)
    spec.setdefault(section, {})[hidden] = SHELL if section == "attributes" else None
    folder = write(config)
    with audited(folder), pytest.raises(ValueError, match=r"config\.json: .*expected names"):
        load_model(folder)


def root(config):
    return config["model"].get("grid_network", config["model"])


NODES = [
    {"op": "call_function", "target": "os.system", "args": ["true"]},
    {"op": "call_function", "target": "builtins.eval", "args": ["1"]},
    {"op": "call_function", "target": "torch.load", "args": ["x"]},
    {"op": "call_function", "target": "getattr", "args": [{"node": 0}, "__class__"]},
    {"op": "call_function", "target": "getattr", "args": [{"node": 0}, "data_ptr"]},
    {"op": "call_function", "target": "getattr", "args": ["text", "shape"]},
    {"op": "call_method", "target": "numpy", "args": [{"node": 0}]},
    {"op": "call_method", "target": "__reduce__", "args": [{"node": 0}]},
    {"op": "call_method", "target": "add", "args": ["text"]},
    {"op": "call_module", "target": "__class__", "args": [{"node": 0}]},
    {"op": "call_module", "target": 'x", None) or f("y', "args": [{"node": 0}]},
    {"op": "get_attr", "target": "forward", "args": []},
    {"op": "get_attr", "target": "0.__init__.__globals__", "args": []},
    {"op": "placeholder", "target": "third", "args": []},
    {"op": "output", "target": "output", "args": [{"node": 0}]},
    {"op": "root", "target": "output", "args": []},
    {"op": "call_function", "target": "torch.relu", "args": [{"node": 10**6}]},
    {"op": "call_function", "target": "torch.relu", "args": [{"node": -1}]},
    {"op": "call_function", "target": "torch.relu", "args": [{"node": 0, "tuple": []}]},
    {"op": "call_function", "target": "torch.relu", "args": [{"dtype": "load"}]},
]


@pytest.mark.parametrize("node", NODES, ids=range(len(NODES)))
def test_nodes_of_a_network_come_from_a_list(tmp_path, node):
    save_model(network(), tmp_path)
    load_model(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config["model"]["evaluation"].insert(2, {"kwargs": {}, "caller": ["", ""], **node})
    (tmp_path / "config.json").write_text(json.dumps(config))
    seal_model(tmp_path)
    with audited(tmp_path), pytest.raises(ValueError, match=r"config\.json: expected"):
        load_model(tmp_path)


def test_names_that_torch_would_compile_are_refused_when_saved(tmp_path):
    layers = nn.Sequential()
    layers._modules['x", None) or print("'] = nn.ReLU()
    with pytest.raises(ValueError, match="expected names that are identifiers or digits"):
        save_model(layers, tmp_path)
    assert not any(tmp_path.iterdir())


def nested(depth):
    model = nn.ReLU()
    for _ in range(depth):
        model = nn.Sequential(model)
    return model


def test_depth_is_bounded(tmp_path):
    save_model(nested(50), tmp_path)
    assert isinstance(load_model(tmp_path), nn.Sequential)
    for depth in (100, 400, 5000):
        with pytest.raises(ValueError, match=f"expected at most {MAX_DEPTH} levels"):
            save_model(nested(depth), tmp_path)
    deep = '{"format": 2, "about": {}, "model": ' + "[" * 100_000 + "]" * 100_000 + "}"
    (tmp_path / "config.json").write_text(deep)
    with pytest.raises(ValueError, match=r"config\.json is damaged"):
        load_model(tmp_path)


@pytest.mark.parametrize("seed", range(4))
def test_mutated_configs_execute_nothing(saved, seed):
    """Sealed mutants load or raise a ValueError with the file's name; either way nothing happens beside."""
    _, config, write = saved
    generator, errors = random.Random(seed), 0
    for _ in range(40):
        mutant = {**config, "model": mutated(config["model"], generator, DONORS, NAMES, TEXTS)}
        folder = write(mutant)
        with audited(folder):
            error = refusal(folder)
        errors += error is not None
        assert error is None or "config.json" in error or "model.safetensors" in error
    assert errors > 10


def refusal(folder):
    """The message of the ValueError that loading raises; None where it does not."""
    try:
        load_model(folder)
    except ValueError as error:
        return str(error)
    return None


@pytest.mark.parametrize("file", ["config.json", "model.safetensors"])
def test_flipped_bits_are_noticed(saved, file):
    name, config, write = saved
    folder = write(config)
    path, expected, generator = folder / file, outputs(name, load_model(folder)), random.Random(0)
    content = path.read_bytes()
    noticed = 0
    for _ in range(60):
        position, bit = generator.randrange(len(content)), 1 << generator.randrange(8)
        path.write_bytes(content[:position] + bytes([content[position] ^ bit]) + content[position + 1 :])
        error = refusal(folder)
        noticed += error is not None
        assert error is None or str(folder) in error
        if error is None:
            assert torch.equal(outputs(name, load_model(folder)), expected), position  # a bit of white space
    assert noticed > 40


def test_weights_of_another_model_are_noticed(tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    for number, folder in enumerate((first, second)):
        torch.manual_seed(number)
        save_model(gnnlib.GCNConv(3, 2), folder)
    (first / "model.safetensors").write_bytes((second / "model.safetensors").read_bytes())
    with pytest.raises(ValueError, match="belongs to another model"):
        load_model(first)


def test_parametrized_and_compiled_models(tmp_path):
    for number, wrap in enumerate((nn.utils.parametrizations.weight_norm, nn.utils.parametrizations.spectral_norm)):
        layer = gnnlib.SAGEConv(FEATS, 3)
        wrap(layer.fc_neigh)
        check_round_trip(layer.eval(), tmp_path / str(number))
    check_round_trip(torch.compile(gnnlib.GCNConv(FEATS, 3), backend="eager"), tmp_path / "compiled")


def check_round_trip(model, folder):
    save_model(model, folder)
    graph, x = random_graph(), torch.randn(11, FEATS)
    torch.testing.assert_close(load_model(folder)(graph, x), getattr(model, "_orig_mod", model)(graph, x))


def test_home_is_expanded(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    save_model(gnnlib.GCNConv(3, 2), "~/model")
    assert isinstance(load_model("~/model"), gnnlib.GCNConv)
    assert {path.name for path in tmp_path.iterdir()} == {"home"}
