"""SplineConv: its basis from scipy's B-splines, its sum edge by edge, and torch's convolution where taps are whole."""

import numpy as np
import pytest
import torch
from scipy.interpolate import BSpline
from torch import nn

from gnnlib import SplineConv, aggregate
from gnnlib._platform.dgl import dgl
from gnnlib.images import pixel_graph
from gnnlib.nn.conv.spline import spline_basis
from gnnlib.testing.case import Case
from gnnlib.testing.checks import on_every_graph, properties
from gnnlib.testing.graphs import random_graph


def scipy_basis(place, num, degree):
    """(E, num), on the knots that make all splines sum to 1 from 0 to num - degree."""
    place = place.clamp(0, num - degree)
    knots = np.arange(-degree, num + 1)
    inside = place.numpy().clip(0, np.nextafter(num - degree, 0))  # scipy's last interval has no end
    columns = [BSpline.basis_element(knots[i : i + degree + 2], extrapolate=False)(inside) for i in range(num)]
    return torch.from_numpy(np.nan_to_num(np.stack(columns, 1))).to(place)


def reference(conv, dense, x_src, x_dst, edge):
    """One adjacency matrix per tap."""
    p_src, p_dst = (data["pos"].double() for data in (dense.graph.srcdata, dense.graph.dstdata))
    offset = (dense.src.double() @ p_src - dense.dst.double() @ p_dst) / conv.spacing
    b = torch.ones(len(offset), 1, dtype=torch.float64)
    for axis, num in enumerate(conv.kernel_size):
        along = scipy_basis(offset[:, axis] + (num - conv.degree) / 2, num, conv.degree)
        b = torch.einsum("ek,el->ekl", b, along).flatten(1)
    matrices = torch.einsum("ev,ek,eu->kvu", dense.dst, b.to(x_src), dense.src)
    y = torch.einsum("kvu,ui,kio->vo", matrices, x_src, conv.weight)
    if conv.reduce == "mean":
        y = y / dense.dst.sum(0).clamp(min=1).unsqueeze(1)
    return y + isolated(conv, x_dst)


def isolated(conv, x_dst):
    zero = x_dst.new_zeros(len(x_dst), conv.out_feats)
    y = zero if conv.root is None else x_dst @ conv.root
    return y if conv.bias is None else y + conv.bias


def case(name, in_feats=4, out_feats=3, kernel_size=3, **options):
    def make():
        return SplineConv(in_feats, out_feats, kernel_size, **options)

    return Case(
        name, make, reference, isolated, in_feats, needs_dst=options.get("root", False), pos=len(make().kernel_size)
    )


CASES = [
    case("taps", reduce="sum"),
    case("mean", kernel_size=(5, 2), spacing=0.7, bias=False),
    case("root", in_feats=(4, 2), kernel_size=(3,), root=True),
    case("quadratic", kernel_size=(3, 2, 4), degree=2, root=True),
    case("cubic", kernel_size=5, degree=3, spacing=1.5, reduce="sum"),
]

test_every_graph = on_every_graph(CASES)
test_properties = properties(CASES)


# ---------------------------------------------------------------- the basis


@pytest.mark.parametrize("degree", [1, 2, 3, 4])
@pytest.mark.parametrize("more", [0, 1, 2, 5])
def test_the_basis_is_that_of_scipy(degree, more):
    num = degree + more
    place = torch.linspace(-1, more + 1, 1001, dtype=torch.float64)
    basis = spline_basis(place, num, degree)
    torch.testing.assert_close(basis, scipy_basis(place, num, degree), rtol=0, atol=1e-12)
    torch.testing.assert_close(basis.sum(1), torch.ones_like(place), rtol=0, atol=1e-14)  # partition of unity
    assert basis.min() >= 0
    assert (basis > 0).sum(1).max() <= degree + 1


@pytest.mark.parametrize("degree", [1, 2, 3, 4])
def test_smooth_up_to_one_less_than_the_degree(degree):
    """At the knots all derivatives but the last are the same from both sides."""
    num = degree + 4
    for knot in (1.0, 2.0, 3.0):
        sides = []
        for side in (-1e-9, 1e-9):
            place = torch.tensor(knot + side, dtype=torch.float64, requires_grad=True)
            values = spline_basis(place, num, degree)
            actual = [values]
            for _ in range(degree):
                values = [torch.autograd.grad(v, place, create_graph=True)[0] for v in values]
                actual.append(torch.stack(values))
            sides.append([f.detach() for f in actual])
        apart = [float((a - b).abs().max()) for a, b in zip(*sides)]
        assert max(apart[:-1]) < 1e-7
        assert apart[-1] > 0.5, "the last one jumps"


@pytest.mark.parametrize("num", [1, 2, 3, 4, 7])
def test_whole_places_are_one_hot(num):
    for dtype in (torch.float32, torch.float64):
        assert torch.equal(spline_basis(torch.arange(num, dtype=dtype), num), torch.eye(num, dtype=dtype))


@pytest.mark.parametrize("degree", [1, 2, 3])
def test_the_centre_of_the_window_is_the_node_itself(degree):
    """Mirrored offsets see mirrored taps."""
    conv = SplineConv(1, 1, (5, 4), degree=degree).double()
    graph = dgl.graph(([0, 1, 2], [0, 0, 0]))
    offset = torch.tensor([0.3, -0.8], dtype=torch.float64)
    graph.ndata["pos"] = torch.stack([torch.zeros(2, dtype=torch.float64), offset, -offset])
    center, there, opposite = conv.basis(graph, torch.ones(1, dtype=torch.float64))
    torch.testing.assert_close(center, center.flip(0))
    torch.testing.assert_close(there, opposite.flip(0))


# ---------------------------------------------------------------- the layer


@pytest.mark.parametrize(("spacing", "degree", "reach"), [(1.0, 1, 1.0), (2.5, 1, 2.5), (3.0, 2, 1.5)])
def test_offsets_beyond_the_window_are_cut(spacing, degree, reach):
    conv = SplineConv(1, 2, 3, degree=degree, spacing=spacing).double()
    graph, x = dgl.graph(([0], [1])), torch.ones(2, 1, dtype=torch.float64)

    def at(offset):
        graph.ndata["pos"] = torch.tensor([offset, [0.0, 0.0]], dtype=torch.float64)
        return conv(graph, x)[1]

    assert torch.equal(at([reach, 0.2]), at([reach + 5, 0.2]))
    assert torch.equal(at([-reach, -99.0]), at([-reach - 0.5, -reach]))
    assert not torch.equal(at([reach, 0.2]), at([reach - 0.1, 0.2]))


def test_between_two_taps_the_weights_are_mixed():
    conv = SplineConv(1, 1, 3, spacing=2.0, reduce="sum", bias=False)
    graph = dgl.graph(([0], [1]))
    graph.ndata["pos"] = torch.tensor([[-0.5, 2.0], [0.0, 0.0]])
    weight = conv.weight.detach().view(3, 3)
    torch.testing.assert_close(conv(graph, torch.ones(2, 1))[1], weight[None, 0, 2] / 4 + weight[None, 1, 2] * 3 / 4)


@pytest.mark.parametrize("kernel", [1, (1,), 3, (5, 3), (3, 1, 5)], ids=str)
@pytest.mark.parametrize("spacing", [1.0, 4.0])
def test_whole_offsets_are_torchs_convolution(kernel, spacing):
    torch.manual_seed(0)
    window = kernel if isinstance(kernel, tuple) else (kernel, kernel)
    axes, lengths = len(window), (6, 7, 5)[: len(window)]
    theirs = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[axes - 1](2, 3, window, padding="same").double()
    ours = SplineConv(2, 3, kernel, spacing=spacing, reduce="sum").double()
    ours.load_state_dict({"weight": theirs.weight.flatten(2).permute(2, 1, 0), "bias": theirs.bias})
    graph = pixel_graph(lengths, window)
    graph.ndata["pos"] *= spacing
    images = torch.randn(4, 2, *lengths, dtype=torch.float64)
    x = images.flatten(2).permute(2, 0, 1).requires_grad_()
    images.requires_grad_()
    y, expected = ours(graph, x), theirs(images)
    torch.testing.assert_close(y, expected.flatten(2).permute(2, 0, 1), rtol=0, atol=1e-12)
    y.square().sum().backward()
    expected.square().sum().backward()
    torch.testing.assert_close(x.grad, images.grad.flatten(2).permute(2, 0, 1), rtol=0, atol=1e-10)
    torch.testing.assert_close(ours.weight.grad, theirs.weight.grad.flatten(2).permute(2, 1, 0), rtol=0, atol=1e-10)


def test_the_mean_is_the_sum_over_in_degrees():
    graph, x = random_graph(), torch.randn(11, 4, dtype=torch.float64)
    graph.ndata["pos"] = torch.randn(11, 2)
    total = SplineConv(4, 3, 3, reduce="sum", bias=False).double()
    mean = SplineConv(4, 3, 3, reduce="mean", bias=False).double()
    mean.load_state_dict(total.state_dict())
    degree = aggregate(graph, torch.ones(11, 1, dtype=torch.float64)).clamp(min=1)
    torch.testing.assert_close(mean(graph, x) * degree, total(graph, x))


def test_moved_positions_change_nothing():
    """Only offsets count."""
    graph, x = random_graph(), torch.randn(11, 4, dtype=torch.float64)
    conv, pos = SplineConv(4, 3, 3, degree=2).double(), torch.randn(11, 2, dtype=torch.float64)
    graph.ndata["pos"] = pos
    before = conv(graph, x)
    graph.ndata["pos"] = pos + torch.tensor([100.0, -7.0])
    torch.testing.assert_close(conv(graph, x), before)


def test_half_precision_still_tells_pixels_apart():
    """bfloat16 would take pixel 257 for 256."""
    conv, graph = SplineConv(1, 1, 3).bfloat16(), dgl.graph(([0], [1]))
    graph.ndata["pos"] = torch.tensor([[257, 300], [256, 300]])
    assert conv.basis(graph, torch.ones(2, 1, dtype=torch.bfloat16))[0].tolist() == [0, 0, 0, 0, 0, 0, 0, 1, 0]


@pytest.mark.parametrize("degree", [1, 3])
def test_positions_get_gradients(degree):
    torch.manual_seed(0)
    graph, x = random_graph(), torch.randn(11, 4, dtype=torch.float64)
    conv = SplineConv(4, 3, 5, degree=degree, spacing=2.0).double()

    def function(pos):
        with graph.local_scope():
            graph.ndata["pos"] = pos
            return conv(graph, x)

    assert torch.autograd.gradcheck(function, torch.randn(11, 2, dtype=torch.float64, requires_grad=True))


def test_a_bipartite_graph_without_positions_on_one_side_is_refused():
    graph = dgl.heterograph({("in", "to", "out"): ([0], [0])})
    graph.nodes["in"].data["pos"] = torch.rand(1, 2)
    with pytest.raises(ValueError, match="expected positions"):
        SplineConv(4, 3, 3)(graph, torch.randn(1, 4))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(kernel_size=0), "kernel_size >= 1, got 0"),
        (dict(kernel_size=()), r"kernel_size with an axis or more, got \(\)"),
        (dict(kernel_size=(3, 2), degree=3), "kernel_size >= 3, got 2"),
        (dict(kernel_size=3, degree=0), "degree >= 1, got 0"),
        (dict(kernel_size=3, spacing=0.0), "a positive spacing, got 0.0"),
        (dict(kernel_size=3, spacing=float("nan")), "a positive spacing, got nan"),
        (dict(kernel_size=3, reduce="max"), "one of 'sum', 'mean', got 'max'"),
    ],
)
def test_invalid_arguments(options, message):
    with pytest.raises(ValueError, match=message):
        SplineConv(4, 3, **options)
