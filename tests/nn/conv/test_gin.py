"""GINConv: its equation, densely; and dgl.nn.GINConv."""

import pytest
import torch
from torch import nn

from gnnlib import GINConv
from gnnlib._platform.dgl import dgl
from gnnlib.testing.case import Case
from gnnlib.testing.checks import on_every_graph, properties
from gnnlib.testing.graphs import random_graph


def mlp(in_feats, out_feats):
    return nn.Sequential(nn.Linear(in_feats, 4), nn.Tanh(), nn.Linear(4, out_feats))


def reference(conv, dense, x_src, x_dst, edge):
    """MLP((1 + eps) x_v + reduce over u of w_uv x_u), from a table of every message at every destination."""
    message = dense.src @ x_src
    message = message if edge is None else edge.unsqueeze(1) * message
    arrives = (dense.dst.T > 0).unsqueeze(-1)  # (N_dst, E, 1)
    number = arrives.sum(1)
    if conv.reduce == "max":
        nothing = message.new_full((len(x_dst), 1, message.shape[1]), -torch.inf)
        table = torch.cat([torch.where(arrives, message, -torch.inf), nothing], 1)
        y = torch.where(number > 0, table.max(1).values, 0)
    else:
        y = torch.where(arrives, message, 0).sum(1)
        y = y / number.clamp(min=1) if conv.reduce == "mean" else y
    return conv.apply_func((1 + conv.eps) * x_dst + y)


def isolated(conv, x_dst):
    return conv.apply_func((1 + conv.eps) * x_dst)


def case(name, in_feats=5, out_feats=3, edge=None, func=None, **options):
    def make():
        return GINConv(in_feats, out_feats, apply_func=func() if func else None, **options)

    def counterpart():
        apply_func = func() if func else nn.Sequential(nn.Linear(5, 3), nn.ReLU(), nn.Linear(3, 3))
        return dgl.nn.GINConv(
            apply_func, options.get("reduce", "sum"), options.get("eps", 0), options.get("learn_eps", False)
        )

    return Case(name, make, reference, isolated, in_feats=in_feats, edge=edge, needs_dst=True, counterpart=counterpart)


CASES = [
    case("default"),
    case("learned-eps-weighted", edge="weight", eps=0.3, learn_eps=True),
    case("mlp", in_feats=4, out_feats=6, func=lambda: mlp(4, 6), eps=-0.5),
    case("mean", reduce="mean", func=lambda: nn.Linear(5, 3), learn_eps=True),
    case("mean-weighted", reduce="mean", edge="weight"),
    case("max", reduce="max", func=lambda: mlp(5, 3)),
    case("max-weighted", reduce="max", edge="weight", func=lambda: mlp(5, 3), learn_eps=True),
]

test_every_graph = on_every_graph(CASES)
test_properties = properties(CASES)


def test_eps_is_trained_only_on_request():
    assert "eps" in dict(GINConv(2, 2, eps=0.5, learn_eps=True).named_parameters())
    fixed = GINConv(2, 2, eps=0.5)
    assert "eps" not in dict(fixed.named_parameters())
    assert fixed.state_dict()["eps"].tolist() == [0.5]


def test_sum_tells_apart_what_mean_and_max_cannot():
    """Xu et al. figure 3: neighbourhoods {a, b} and {a, a, b, b}."""
    twice = dgl.graph(([0, 1, 0, 1, 0, 1], [2, 2, 3, 3, 3, 3]))
    x = torch.tensor([[1.0], [5.0], [0.0], [0.0]])

    def rows(reduce):
        return GINConv(1, 1, apply_func=nn.Identity(), reduce=reduce)(twice, x)[2:].flatten().tolist()

    assert rows("sum") == [6, 12]
    assert rows("mean") == [3, 3]
    assert rows("max") == [5, 5]


@pytest.mark.parametrize("reduce", ["sum", "mean", "max"])
def test_a_parametric_apply_func_may_be_any_module(reduce):
    graph, x = random_graph(), torch.randn(11, 5)
    norm = nn.BatchNorm1d(5)
    assert GINConv(5, 5, apply_func=norm, reduce=reduce)(graph, x).shape == (11, 5)


def test_bad_reduce_is_refused():
    with pytest.raises(ValueError, match="'median'"):
        GINConv(2, 2, reduce="median")(random_graph(), torch.ones(11, 2))


@pytest.mark.parametrize("learn_eps", [False, True])
@pytest.mark.parametrize("bias", [False, True])
def test_a_narrowing_mlp_goes_before_the_sum_and_gives_the_same(learn_eps, bias):
    """A hook on its first layer sends the layer the other way; both, and their gradients, agree."""
    graph, x, weight = random_graph(), torch.randn(11, 9).double().requires_grad_(), torch.rand(23).double()
    mlp, seen = nn.Sequential(nn.Linear(9, 4, bias=bias), nn.Tanh(), nn.Linear(4, 2)).double(), []
    conv = GINConv(9, 2, apply_func=mlp, eps=0.3, learn_eps=learn_eps).double()
    for args, edge in ((x, weight), (x, None), ((x, 2 * x.detach()), weight)):
        actual = conv(graph, args, edge)
        hook = mlp[0].register_forward_hook(lambda module, inputs, y: seen.append(inputs[0].shape[-1]))
        expected = conv(graph, args, edge)
        hook.remove()
        torch.testing.assert_close(actual, expected)
        inputs, loss = (x, *conv.parameters()), torch.randn_like(actual)
        for a, b in zip(*(torch.autograd.grad(y, inputs, loss) for y in (actual, expected))):
            torch.testing.assert_close(a, b)
    assert seen == [9, 9, 9]
