"""Constructor arguments: checks, representations, and messages for the names of other libraries."""

from typing import ClassVar

import numpy as np
import pytest
import torch
from torch import nn

from gnnlib.nn._arguments import Arguments, integer, number, one_of, probability, reset_parameters


class Layer(Arguments, nn.Module):
    renamed: ClassVar = {"in_channels": "in_feats", "concat": "no concat (`concat_heads` joins heads)"}

    def __init__(self, in_feats, out_feats=None, *, slope=0.2, bias=True, hidden=None):
        super().__init__()
        self.in_feats, self.out_feats, self.slope, self.hidden = in_feats, out_feats, slope, hidden
        self.bias = nn.Parameter(torch.zeros(2)) if bias else None


@pytest.mark.parametrize(
    ("layer", "shown"),
    [
        (lambda: Layer(3), "3"),
        (lambda: Layer(3, 4), "3, out_feats=4"),
        (lambda: Layer(in_feats=(3, 2), slope=0.1), "(3, 2), slope=0.1"),
        (lambda: Layer(3, bias=False), "3, bias=False"),
        (lambda: Layer(3, hidden=nn.ReLU()), "3"),
        (lambda: Layer(3, hidden="max"), "3, hidden='max'"),
    ],
)
def test_extra_repr_shows_widths_and_what_is_not_default(layer, shown):
    assert layer().extra_repr() == shown


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Layer(in_channels=3), "Layer: expected in_feats, got in_channels="),
        (lambda: Layer(3, concat=True), "Layer: expected no concat .*, got concat="),
        (
            lambda: Layer(3, size=1),
            "Layer: expected arguments among in_feats, out_feats, .*hidden, got size=",
        ),
        (
            lambda: Layer(3, 4, 0.6),
            "Layer: expected in_feats, out_feats by position and slope=, bias=, hidden= by name, got 3 arguments",
        ),
        (lambda: Layer(), "missing 1 required positional argument: 'in_feats'"),
    ],
)
def test_wrong_arguments_are_named(make, message):
    with pytest.raises(TypeError, match=message):
        make()


class Wider(Layer):
    def __init__(self, *args, **options):
        super().__init__(*args, **options)


def test_a_subclass_is_named_and_passes_arguments_on():
    assert Wider(3, slope=0.1).slope == 0.1
    with pytest.raises(TypeError, match="Wider: expected in_feats, got in_channels="):
        Wider(in_channels=3)


@pytest.mark.parametrize(
    ("check", "message"),
    [
        (lambda: integer("X", "k", 0), "X: expected k >= 1, got 0"),
        (lambda: integer("X", "k", 2.5), "X: expected an integer k >= 1, got 2.5"),
        (lambda: integer("X", "k", True), "X: expected an integer k >= 1, got True"),
        (lambda: integer("X", "k", -1, least=0), "X: expected k >= 0, got -1"),
        (lambda: number("X", "eps", -1.0, least=0), "X: expected a number eps >= 0, got -1.0"),
        (lambda: number("X", "eps", "1", 0, 2), "X: expected a number eps >= 0 and <= 2, got '1'"),
        (lambda: number("X", "eps", float("nan")), "X: expected a number eps, got nan"),
        (lambda: probability("X", "p", 1.5), "X: expected a probability p from 0 to 1, got 1.5"),
        (lambda: probability("X", "p", None), "X: expected a probability p from 0 to 1, got None"),
        (lambda: one_of("X", "norm", "no", ("a", "b")), "X: expected norm to be one of 'a', 'b', got 'no'"),
    ],
)
def test_invalid_values(check, message):
    with pytest.raises(ValueError, match=message):
        check()


def test_valid_values_are_returned():
    size = integer("X", "k", np.int64(3))
    assert (size, type(size)) == (3, int)
    assert (number("X", "eps", 0.5), probability("X", "p", 1), one_of("X", "norm", "a", "ab")) == (0.5, 1, "a")


def test_reset_parameters_draws_as_construction_did():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.Sequential(nn.ReLU(), nn.GRUCell(4, 4)))
    before = [p.clone() for p in model.parameters()]
    reset_parameters(model)
    assert not torch.equal(before[0], model[0].weight)
    torch.manual_seed(0)
    reset_parameters(model)
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters()))
