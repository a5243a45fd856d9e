"""Evaluations give the mode of each module back, after errors too."""

import ast
from pathlib import Path

import pytest
import torch
from torch import nn

import gnnlib
from gnnlib import GATConv, SAGEConv, Stack
from gnnlib.analysis import summary
from gnnlib.analysis.smoothing import diagnose
from gnnlib.benchmarks.tasks.base import attribution_maps
from gnnlib.benchmarks.tasks.infomax import embed
from gnnlib.large import layerwise_inference
from gnnlib.nn.init import lsuv_init_
from gnnlib.testing.graphs import symmetric_graph
from gnnlib.train import Batch, evaluate, predict

ROOT = Path(__file__).parents[1]
SETS_MODES = {
    "gnnlib/_utils/model_state.py": "the one context that restores them",
    "gnnlib/train/loop.py": "a training sets them at the start of each epoch",
    "gnnlib/grid/_from_torch.py": "of copies",
    "benchmarks/speed/grid.py": "of new networks",
    "datasets/ogb.py": "of the evaluator of another package",
}


def sources():
    for folder in ("gnnlib", "benchmarks", "datasets"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            name = path.relative_to(ROOT).as_posix()
            if not name.startswith(("gnnlib/benchmarks/", "gnnlib/datasets/")):  # links
                yield name, ast.parse(path.read_text())


@pytest.mark.slow
def test_modes_are_set_in_one_place():
    """No other code of the library and the benchmarks calls ``eval()`` or ``train()`` of a module."""
    calls = set()
    for name, tree in sources():
        for node in ast.walk(tree):
            function = node.func if isinstance(node, ast.Call) else None
            if isinstance(function, ast.Attribute) and function.attr in ("eval", "train") and len(node.args) <= 1:
                on_class = isinstance(function.value, ast.Attribute) and function.value.attr == "Module"
                calls |= {name} if not on_class and not node.keywords else set()
    assert calls == SETS_MODES.keys() & calls, calls - SETS_MODES.keys()
    assert len(calls) >= 3


GRAPH = symmetric_graph()
X, LABELS = torch.randn(11, 5), torch.arange(11) % 3
BATCH = Batch(GRAPH, X, LABELS)


def model():
    """A training model with one frozen norm."""
    made = Stack.build(SAGEConv, 5, 8, 3, num_layers=3, norm=gnnlib.BatchNorm, dropout=0.5).train()
    made.blocks[0].norm.eval()
    return made


def attention_model():
    return Stack.build(lambda i, o: GATConv(i, o // 2, 2), 5, 8, 4, num_layers=2, dropout=0.5).train()


def data(graph):
    other = graph.local_var()
    other.ndata["feat"] = X
    return other


EVALUATIONS = {
    "predict": (model, lambda m: predict(m, [BATCH])),
    "layerwise_inference": (model, lambda m: layerwise_inference(m, GRAPH, X, batch_size=4)),
    "evaluate": (model, lambda m: evaluate(m, BATCH)),
    "predict of graphs": (model, lambda m: predict(m, [data(GRAPH)])),
    "summary": (model, lambda m: summary(m, GRAPH, X)),
    "diagnose": (model, lambda m: diagnose(m, GRAPH, X, LABELS)),
    "lsuv_init_": (model, lambda m: lsuv_init_(m, GRAPH, X)),
    "attribution_maps": (attention_model, lambda m: attribution_maps(m, BATCH)),
    "embed": (model, lambda m: embed(m, GRAPH, X)),
}


class Stop(Exception):
    pass


def modes(module):
    return [part.training for part in module.modules()]


@pytest.mark.parametrize("name", EVALUATIONS)
def test_modes_after_an_evaluation(name):
    make, evaluate = EVALUATIONS[name]
    for training in (True, False):
        module = make().train(training)
        list(module.modules())[2].train(not training)
        before = modes(module)
        evaluate(module)
        assert modes(module) == before


@pytest.mark.parametrize("name", EVALUATIONS)
def test_modes_after_an_error(name):
    make, evaluate = EVALUATIONS[name]
    module = make()
    before, during = modes(module), []

    def stop(part, inputs):
        during.append(part.training)
        raise Stop

    for part in module.modules():
        if isinstance(part, nn.Dropout):
            part.register_forward_pre_hook(stop)
    with pytest.raises(Stop):
        evaluate(module)
    assert during == [False], "it was evaluated"
    assert modes(module) == before
