"""Constructor arguments: checks, representations, and messages for the names of other libraries."""

import inspect
import warnings
from typing import ClassVar

import numpy as np
import pytest
import torch
from torch import nn

import gnnlib
from gnnlib import models
from gnnlib.nn import Hops
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
        (lambda: Layer(), "Layer: expected in_feats, got no in_feats"),
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
        (lambda: integer("X", "k", -1, minimum=0), "X: expected k >= 0, got -1"),
        (lambda: number("X", "eps", -1.0, minimum=0), "X: expected a number eps >= 0, got -1.0"),
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


@pytest.mark.parametrize(
    "numbers",
    [(np.int64(3), np.float64(0.5)), (np.uint8(3), np.float16(0.5)), (torch.tensor(3), torch.tensor(0.5))],
    ids=["numpy", "small", "tensor"],
)
def test_numbers_of_numpy_become_numbers(numbers):
    size, real = numbers
    layer = Layer((size, [size]), size, slope=real, bias=np.bool_(False))
    assert repr((layer.in_feats, layer.out_feats, layer.slope)) == "((3, [3]), 3, 0.5)"
    assert layer.bias is None


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


def test_a_module_with_parameters_and_no_reset_is_named():
    with pytest.raises(TypeError, match="expected a module that has this method, got Layer"):
        reset_parameters(nn.Sequential(Layer(3)))


# ---------------------------------------------------------------- every module of the library but convolutions


def layers():
    return [gnnlib.GNNLayer(Hops(1)) for _ in range(2)]


MODULES = [  # what makes it, its representation; the same with other arguments; names of other libraries
    (lambda: gnnlib.BatchNorm(4), "4"),
    (lambda: gnnlib.BatchNorm(4, eps=0.1, momentum=None, affine=False), "4, eps=0.1, momentum=None, affine=False"),
    (lambda: gnnlib.RowBatchNorm(4, track_running_stats=False), "4, track_running_stats=False"),
    (lambda: gnnlib.LayerNorm(4), "4"),
    (lambda: gnnlib.LayerNorm(4, eps=0.1, bias=False), "4, eps=0.1, bias=False"),
    (lambda: gnnlib.PairNorm(), ""),
    (lambda: gnnlib.PairNorm(4, scale=2.0, individually=True), "feats=4, scale=2.0, individually=True"),
    (lambda: gnnlib.PairNormSCS(4, scale=2.0), "feats=4, scale=2.0"),
    (lambda: gnnlib.MeanSubtraction(4), "feats=4"),
    (lambda: gnnlib.GraphNorm(4, eps=0.1), "4, eps=0.1"),
    (lambda: gnnlib.GraphNorm(4, mean_scale=False), "4, mean_scale=False"),
    (lambda: gnnlib.DiffGroupNorm(4, groups=3, lam=0.1), "4, groups=3, lam=0.1"),
    (lambda: gnnlib.NodeNorm(4, p=1), "feats=4, p=1"),
    (lambda: gnnlib.ContraNorm(4, scale=0.5, temperature=2), "4, scale=0.5, temperature=2.0"),
    (lambda: gnnlib.SkipInit(4), "feats=4"),
    (lambda: gnnlib.FeedForward(4, norm=gnnlib.LayerNorm, dropout=0.5), "4, hidden=8, dropout=0.5"),
    (lambda: gnnlib.Residual(4, 3), "4, 3"),
    (lambda: gnnlib.Residual(4, 4, layer=2), "4, 4, layer=2"),
    (lambda: gnnlib.InitialResidual(4, 4), "4, 4"),
    (lambda: gnnlib.InitialResidual(4, 4, 2, alpha=0.2, lam=None), "4, 4, layer=2, alpha=0.2, lam=None"),
    (lambda: gnnlib.DenseConnection(4, 3), "4, 3"),
    (lambda: gnnlib.GRUUpdate(4, 4), "4, 4"),
    (lambda: gnnlib.SkipNode(4, 4, p=0.2), "4, 4, p=0.2"),
    (lambda: gnnlib.JumpingKnowledge.cat(4, 3), "12"),
    (lambda: gnnlib.JumpingKnowledge.max(4, 3), "4"),
    (lambda: gnnlib.JumpingKnowledge.lstm(4, 3, hidden=2), "4"),
    (lambda: gnnlib.DropEdge(), "p=0.5"),
    (lambda: gnnlib.DropEdge(0.2, keep_self_loops=False), "p=0.2, keep_self_loops=False"),
    (lambda: gnnlib.DropNode(0.2), "p=0.2"),
    (lambda: gnnlib.DropMessage(gnnlib.GCNConv(4, 3), 0.2), "p=0.2"),
    (lambda: gnnlib.GradientGating(Hops(1), gate=gnnlib.GCNConv(4, 4), p=3, reduce="mean"), "p=3, reduce='mean'"),
    (lambda: Hops(3), "3"),
    (lambda: gnnlib.APPNP(), "k=10"),
    (lambda: gnnlib.APPNP(3, alpha=0.2, drop=nn.Dropout(0.5)), "k=3, alpha=0.2"),
    (lambda: gnnlib.DAGNN(4), "4, k=10"),
    (lambda: gnnlib.SumOfEmbeddings([3, 2], 4), "(3, 2), 4"),
    (lambda: gnnlib.VirtualNode(layers(), 4, dropout=0.1), "4, dropout=0.1"),
    (lambda: gnnlib.SumReadout(4), "4"),
    (lambda: gnnlib.FlatReadout(4, 3), "4, 3"),
    (lambda: gnnlib.AttentionReadout(4, 3), "4, out_feats=3"),
    (lambda: gnnlib.Set2Set(4), "4"),
    (lambda: gnnlib.Set2Set(4, num_steps=2, num_layers=2), "4, num_steps=2, num_layers=2"),
    (lambda: gnnlib.SortPool(4), "4"),
    (lambda: gnnlib.SortPool(4, 3), "4, k=3"),
    (lambda: gnnlib.GNNLayer(Hops(1)), ""),
    (lambda: gnnlib.GNNLayer(Hops(1), merge=gnnlib.mean_heads), "merge=mean_heads"),
    (lambda: gnnlib.Stack(layers(), checkpoint=True), "checkpoint=True"),
    (lambda: gnnlib.Stack(layers(), readout=gnnlib.readout_sum), "readout=readout_sum"),
    (lambda: models.SGC(5, 3), "5, 3"),
    (lambda: models.GfNN(5, 4, 3, 3, dropout=0.1), "5, 4, 3, k=3, dropout=0.1"),
    (lambda: models.SIGN(5, 4, 3), "5, 4, 3"),
    (lambda: models.APPNPNet(5, 4, 3, alpha=0.2), "5, 4, 3, alpha=0.2"),
    (lambda: models.DAGNNNet(5, 4, 3, 2), "5, 4, 3, k=2"),
    (lambda: models.JKNet(5, 4, 3, num_layers=2), "5, 4, 3, num_layers=2"),
    (lambda: models.GCNII(5, 4, 3, 2, lam=0.1, starred=True), "5, 4, 3, num_layers=2, lam=0.1, starred=True"),
    (lambda: models.DGI(nn.Identity(), 4), "4"),
    (lambda: models.GAE(nn.Identity(), num_pairs=5), "num_pairs=5"),
    (lambda: models.VGAE(nn.Identity()), ""),
]
POSITIONAL = {"feats", "in_feats", "hidden_feats", "out_feats", "layer", "k", "num_layers", "num_nodes", "p", "sizes"}
POSITIONAL |= {"conv", "blocks", "encoder", "merge"}
modules = pytest.mark.parametrize("make", [make for make, _ in MODULES])


@pytest.mark.parametrize(("make", "shown"), MODULES)
def test_representations(make, shown):
    assert make().extra_repr() == shown


def numpy_numbers(value):
    if isinstance(value, (tuple, list)):
        return type(value)(map(numpy_numbers, value))
    kinds = {int: np.int64, float: np.float64, bool: np.bool_}
    return kinds.get(type(value), lambda same: same)(value)


@modules
def test_numbers_of_numpy_make_the_same_module(make):
    module = make()
    parameters = dict(list(inspect.signature(type(module).__init__).parameters.items())[1:])
    arguments = {name: getattr(module, name) for name in parameters if getattr(module, name, None) is not None}
    for name, value in list(arguments.items()):
        wraps = isinstance(value, nn.Module) and parameters[name].default is not inspect.Parameter.empty
        if isinstance(value, torch.Tensor) or wraps:
            del arguments[name]  # the attribute is a module made of the argument
    same, other = (
        type(module)(**{name: to(v) for name, v in arguments.items()}) for to in (lambda v: v, numpy_numbers)
    )
    assert other.extra_repr() == same.extra_repr()
    assert {n: p.shape for n, p in other.state_dict().items()} == {n: p.shape for n, p in same.state_dict().items()}
    assert not [name for name in parameters if isinstance(getattr(other, name, None), np.generic)]


def test_a_stack_of_numpy_numbers():
    widths = np.array([5, 8, 3, 2])
    labels = torch.tensor([0, 2, 1])
    stack = gnnlib.Stack.build(gnnlib.GCNConv, *widths, dropout=np.float32(0.5), head=True)
    assert repr(stack) == repr(gnnlib.Stack.build(gnnlib.GCNConv, 5, 8, 3, 2, dropout=0.5, head=True))
    stack = gnnlib.Stack.build(gnnlib.GATConv, widths[0], 8, labels.max() + 1, 2)
    assert stack.blocks[-1].conv.out_feats == 3


@modules
def test_torch_script_is_refused(make):
    module = make()
    if "graph" not in inspect.signature(module.forward).parameters:
        pytest.skip("needs no graph")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for model in (module, nn.Sequential(nn.ReLU(), module)):
            with pytest.raises(TypeError, match=r"expected a call in Python, got torch\.jit\.script: .*save_model"):
                torch.jit.script(model)


@modules
def test_all_but_widths_by_keyword(make):
    parameters = list(inspect.signature(type(make()).__init__).parameters.values())[1:]
    assert {p.name for p in parameters if p.kind is not p.KEYWORD_ONLY} <= set(POSITIONAL)


@modules
def test_other_names_are_refused(make):
    kind = type(make())
    for name in (*kind.renamed, "unknown"):
        with pytest.raises(TypeError, match=f"^{kind.__name__}: expected .*, got {name}=$"):
            kind(**{name: 1})


@pytest.mark.parametrize("make", [make for make, _ in MODULES if list(make().parameters())])
def test_reset_parameters_gives_the_start(make):
    """The same draws as the constructor's, in the same order, and no others."""
    torch.manual_seed(3)
    module = make()
    start, after = {name: p.clone() for name, p in module.state_dict().items()}, torch.rand(2)
    with torch.no_grad():
        for p in module.parameters():
            p.fill_(7)
    torch.manual_seed(3)
    module.reset_parameters()
    assert all(torch.equal(p, start[name]) for name, p in module.state_dict().items())
    assert torch.equal(torch.rand(2), after)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: gnnlib.BatchNorm(0), "BatchNorm: expected feats >= 1, got 0"),
        (lambda: gnnlib.BatchNorm(4, eps=-1), "BatchNorm: expected a number eps >= 0, got -1"),
        (lambda: gnnlib.LayerNorm(2.5), "LayerNorm: expected an integer feats >= 1, got 2.5"),
        (lambda: gnnlib.PairNorm(1.0), "PairNorm: expected an integer feats >= 1, got 1.0"),
        (lambda: gnnlib.PairNormSCS(4, scale="1"), "PairNormSCS: expected a number scale, got '1'"),
        (lambda: gnnlib.MeanSubtraction(-1), "MeanSubtraction: expected feats >= 1, got -1"),
        (lambda: gnnlib.GraphNorm(None), "GraphNorm: expected an integer feats >= 1, got None"),
        (lambda: gnnlib.DiffGroupNorm(4, groups=0), "DiffGroupNorm: expected groups >= 1, got 0"),
        (lambda: gnnlib.NodeNorm(4, p=0), "NodeNorm: expected a number p >= 1, got 0"),
        (lambda: gnnlib.ContraNorm(4, temperature=0), "ContraNorm: expected a positive temperature, got 0"),
        (lambda: gnnlib.SkipInit("a"), "SkipInit: expected an integer feats >= 1, got 'a'"),
        (lambda: gnnlib.FeedForward(0), "FeedForward: expected feats >= 1, got 0"),
        (lambda: gnnlib.Residual(4, 0), "Residual: expected out_feats >= 1, got 0"),
        (lambda: gnnlib.InitialResidual(4, 4, 0), "InitialResidual: expected layer >= 1, got 0"),
        (lambda: gnnlib.InitialResidual(4, 4, alpha=2), "InitialResidual: expected a probability alpha"),
        (lambda: gnnlib.InitialResidual(4, 4, lam=-1), "InitialResidual: expected a number lam >= 0, got -1"),
        (
            lambda: gnnlib.GradientGating(Hops(1), gate=Hops(1), p=0.5),
            "GradientGating: expected a number p >= 1",
        ),
        (lambda: gnnlib.SkipNode(4, 4, p=2), "SkipNode: expected a probability p"),
        (lambda: gnnlib.SkipNode(4, 3), "SkipNode: expected equal widths, got 4 -> 3"),
        (lambda: gnnlib.GRUUpdate(4, 3), "GRUUpdate: expected equal widths, got 4 -> 3"),
        (lambda: gnnlib.DenseConnection(0, 3), "DenseConnection: expected in_feats >= 1, got 0"),
        (lambda: gnnlib.JumpingKnowledge.cat(4, 0), "JumpingKnowledge: expected num_layers >= 1, got 0"),
        (lambda: gnnlib.JumpingKnowledge.lstm(4, 3, hidden=0), "JumpingKnowledge: expected hidden >= 1, got 0"),
        (lambda: gnnlib.DropEdge(1.5), "DropEdge: expected a probability p from 0 to 1, got 1.5"),
        (lambda: gnnlib.APPNP(-1), "APPNP: expected k >= 0, got -1"),
        (lambda: gnnlib.APPNP(alpha=2), "APPNP: expected a probability alpha from 0 to 1, got 2"),
        (lambda: gnnlib.DAGNN(0), "DAGNN: expected feats >= 1, got 0"),
        (lambda: gnnlib.SumOfEmbeddings([3, 0], 4), "SumOfEmbeddings: expected sizes >= 1, got 0"),
        (lambda: gnnlib.VirtualNode(layers(), 4, dropout=2), "VirtualNode: expected a probability dropout"),
        (lambda: models.JKNet(5, 4, 3, 0), "JKNet: expected num_layers >= 1, got 0"),
        (lambda: models.GAE(nn.Identity(), num_pairs=0), "GAE: expected num_pairs >= 1, got 0"),
        (lambda: gnnlib.Stack.build(gnnlib.GCNConv, 4, 4, 4, 0), "Stack: expected num_layers >= 1, got 0"),
    ],
)
def test_values_are_checked_when_a_module_is_made(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: gnnlib.GradientGating(gnnlib.GCNConv, gate=Hops(1)), "GradientGating: expected conv to be a layer"),
        (lambda: gnnlib.FeedForward(4, norm=3), "FeedForward: expected norm to be a class, such as BatchNorm, or None"),
        (lambda: gnnlib.JumpingKnowledge("cat", 4), r"expected JumpingKnowledge.cat\(feats, num_layers\).*, got 'cat'"),
        (
            lambda: gnnlib.JumpingKnowledge(mode="cat"),
            r"expected JumpingKnowledge.cat\(feats, num_layers\).*, got mode=",
        ),
        (lambda: gnnlib.PairNorm(4, 2.0), "PairNorm: expected feats by position and scale=, .* by name, got 2"),
        (lambda: gnnlib.GNNLayer(Hops(1), norm=gnnlib.BatchNorm), "expected norm to be a module, got the class Bat"),
        (lambda: gnnlib.GNNLayer(gnnlib.GCNConv), "GNNLayer: expected conv to be a module, got the class GCNConv"),
        (lambda: gnnlib.GNNLayer(Hops(1), gnnlib.BatchNorm(4)), "expected conv by position and norm=, skip=,"),
        (lambda: build(norm=gnnlib.BatchNorm(4)), "expected norm=BatchNorm, a class or a function .*, got one module"),
        (lambda: build(activation="rely"), "expected activation to be a class .*, or one of 'relu', .*, got 'rely'"),
        (lambda: build(act="relu"), "Stack: expected activation, a factory such as torch.nn.ReLU, got act="),
        (lambda: build(jk="cat"), "Stack: expected jump, such as JumpingKnowledge.cat, got jk="),
        (lambda: build(heads=2), r"Stack: expected conv=lambda i, o: GATConv\(i, o // heads, heads\), got heads="),
        (lambda: gnnlib.Stack.build(gnnlib.GCNConv, 4, 4, 4, 2, gnnlib.BatchNorm), "num_layers by position and norm=,"),
    ],
)
def test_names_of_other_libraries_give_a_hint(make, message):
    with pytest.raises(TypeError, match=message):
        make()


def build(**options):
    return gnnlib.Stack.build(gnnlib.GCNConv, 4, 4, 4, 2, **options)
