"""MoNetConv: a sum over edges and Gaussians, one by one; and dgl.nn's."""

import pytest
import torch

from gnnlib import MoNetConv
from gnnlib._platform.dgl import dgl
from gnnlib.testing.case import Case
from gnnlib.testing.checks import on_every_graph, properties
from gnnlib.testing.graphs import random_graph


def reference(conv, dense, x_src, x_dst, edge):
    """One adjacency matrix per Gaussian, which is written with its whole covariance matrix."""
    weights = conv.fc.weight.view(conv.num_kernels, conv.out_feats, -1)
    y = isolated(conv, x_dst)
    for mu, inv_sigma, weight in zip(conv.mu, conv.inv_sigma, weights):
        away, precision = edge - mu, torch.diag(inv_sigma**2)
        window = torch.exp(-torch.einsum("ea,ab,eb->e", away, precision, away) / 2)
        adjacency = dense.adjacency(window)
        if conv.reduce == "mean":
            adjacency = adjacency / dense.dst.sum(0).clamp(min=1).unsqueeze(1)
        y = y + adjacency @ x_src @ weight.T
    return y


def isolated(conv, x_dst):
    y = x_dst.new_zeros(len(x_dst), conv.out_feats)
    return y if conv.bias is None else y + conv.bias


def case(name, dim, num_kernels, reduce="sum", bias=True, in_feats=5):
    return Case(
        name,
        lambda: MoNetConv(in_feats, 3, dim, num_kernels, reduce=reduce, bias=bias),
        reference,
        isolated,
        in_feats=in_feats,
        edge=dim,
        counterpart=lambda: dgl.nn.GMMConv(in_feats, 3, dim, num_kernels, reduce, bias=bias, allow_zero_in_degree=True),
        counterpart_edge="pseudo",
    )


CASES = [case("plane", 2, 4), case("mean", 3, 2, "mean", bias=False), case("pair", 2, 3, in_feats=(4, 6))]

test_every_graph = on_every_graph(CASES)
test_properties = properties(CASES)


def test_starts_as_that_of_dgl():
    torch.manual_seed(0)
    ours, theirs = MoNetConv(40, 50, 2, 60), dgl.nn.GMMConv(40, 50, 2, 60)
    for (name, p), (other, q) in zip(sorted(ours.named_parameters()), sorted(theirs.named_parameters())):
        assert (name, p.shape) == (other, q.shape)
        assert abs(p.mean() - q.mean()) < 0.03
        assert abs(p.std() - q.std()) < 0.03


def test_a_wide_gaussian_is_the_plain_sum():
    graph, x = random_graph(), torch.randn(11, 5)
    conv = MoNetConv(5, 3, dim=2, num_kernels=1, bias=False)
    torch.nn.init.zeros_(conv.inv_sigma)
    src, dst = graph.edges()
    expected = torch.zeros(11, 3).index_add(0, dst, conv.fc(x)[src])
    torch.testing.assert_close(conv(graph, x, torch.randn(23, 2)), expected)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(dim=0, num_kernels=3), "dim >= 1, got 0"),
        (dict(dim=2, num_kernels=-1), "num_kernels >= 1, got -1"),
        (dict(dim=2, num_kernels=1, reduce="max"), "one of 'sum', 'mean', got 'max'"),
    ],
)
def test_invalid_arguments(options, message):
    with pytest.raises(ValueError, match=message):
        MoNetConv(5, 3, **options)
