"""Argument names of DGL and PyTorch Geometric: the code in the messages runs."""

import re

import pytest
import torch
from torch import nn

from gnnlib import BatchNorm, Dropout, GATConv, GCNConv, GINConv, GNNLayer, Residual
from gnnlib.testing.graphs import random_graph

LAYERS = {"GATConv": (GATConv, "6, 3, num_heads=2"), "GCNConv": (GCNConv, "6, 6")}


NAMES = ["feat_drop", "residual", "activation"]


@pytest.mark.parametrize(("kind", "name"), [*((kind, name) for kind in LAYERS for name in NAMES), ("GATConv", "norm")])
def test_code_of_messages_runs(kind, name):
    conv, arguments = LAYERS[kind]
    with pytest.raises(TypeError) as caught:
        eval(f"conv({arguments}, {name}=None)", {"conv": conv})
    code = re.search(r"GNNLayer\(.*\)(?=, got)", str(caught.value))[0].replace("...", arguments)
    names = dict(in_feats=6, out_feats=6 if kind == "GCNConv" else 3, num_heads=2)
    scope = dict(GNNLayer=GNNLayer, Residual=Residual, BatchNorm=BatchNorm, Dropout=Dropout, nn=nn, **{kind: conv})
    assert eval(code, {**scope, **names})(random_graph(), torch.randn(11, 6)).shape == (11, 6)


def test_a_name_of_no_library_is_answered_with_those_of_the_layer():
    with pytest.raises(TypeError, match=r"GCNConv: expected arguments among in_feats, .*, got no_such="):
        GCNConv(5, 3, no_such=1)


def test_flags_are_booleans():
    with pytest.raises(TypeError, match="GCNConv: expected bias to be True or False, got 'no'"):
        GCNConv(5, 3, bias="no")


def test_errors_inside_forward_are_not_changed():
    """An error inside forward that is not of the call itself stays as it is."""
    conv = GCNConv(5, 3)
    del conv.bias
    with pytest.raises(AttributeError, match="bias"):
        conv(random_graph(), torch.randn(11, 5))


def test_networks_are_passed_by_name():
    with pytest.raises(ValueError, match="GINConv: expected an integer in_feats >= 1, got a Linear; pass networks by"):
        GINConv(nn.Linear(5, 3), 3)
