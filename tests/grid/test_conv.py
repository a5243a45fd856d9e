"""GridConv is PyTorch's convolution, on both paths, and what the textbooks say a convolution is."""

import random

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from gnnlib._platform.dgl import dgl
from gnnlib.grid import GridConv, GridConvTranspose, grid_conv, lattice, to_images, to_nodes, transposed_lattice, whole
from gnnlib.images import pixel_batch, pixel_graph
from gnnlib.nn.conv import ECConv
from gnnlib.testing.case import Case
from gnnlib.testing.checks import ARGUMENTS, sparse_tensors_are_refused
from tests.grid import draws

CONV = nn.Conv1d, nn.Conv2d, nn.Conv3d
CONV_TRANSPOSE = nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d


def compare(theirs, ours, graph, x, pads=None, layout="signals", tolerance=1e-12, what=None):
    """Outputs and gradients of both paths against torch's layer on x (B, C, *size), padded by ``pads`` before."""
    ours.load_state_dict(theirs.state_dict())
    x = x.requires_grad_()
    y = theirs(x if pads is None else F.pad(x, pads))
    expected = draws.gradients(y, [x, *theirs.parameters()])
    for dense in (True, False):
        ours.dense = dense
        got = draws.run(ours, graph, x, tuple(y.shape[2:]), layout)
        draws.assert_same(draws.gradients(got, [x, *ours.parameters()]), expected, tolerance, (dense, layout, what))


def drawn_conv(rng, axes, dtype):
    """A convolution, its lattice's arguments, its images, and the padding of the images where torch lacks it."""
    while True:
        lengths, kernel = draws.size(rng, axes), draws.numbers(rng, axes, 1, 3)
        stride, dilation = draws.numbers(rng, axes, 1, 3), draws.numbers(rng, axes, 1, 2)
        padding = draws.numbers(rng, axes, 0, 2)
        if rng.random() < 0.3:
            padding = tuple((rng.randint(0, 3), rng.randint(0, 3)) for _ in range(axes))
        elif rng.random() < 0.3:
            padding, stride = rng.choice(["same", "valid"]), 1
        arguments = lengths, kernel, stride, padding, dilation
        try:
            lattice(*arguments)
        except ValueError:
            continue
        groups = rng.choice([1, 1, 2, 3])
        feats = groups * rng.randint(1, 3), groups * rng.randint(1, 3)
        pairs = isinstance(padding, tuple) and isinstance(padding[0], tuple)
        pads = [p for sides in reversed(padding) for p in sides] if pairs else None
        layer = CONV[axes - 1](
            *feats,
            draws.spread(kernel, axes),
            stride,
            0 if pairs else padding,
            dilation,
            groups,
            rng.random() < 0.7,
            dtype=dtype,
        )
        return layer, arguments, draws.images(rng, feats[0], lengths, dtype), pads


def ours_like(layer, kind, dtype):
    converted = kind(
        layer.in_channels, layer.out_channels, layer.kernel_size, groups=layer.groups, bias=layer.bias is not None
    )
    return converted.to(dtype)


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")
@pytest.mark.parametrize(
    ("dtype", "tolerance", "count"), [(torch.float64, 1e-12, 80), (torch.float32, 1e-4, 15)], ids=["double", "float"]
)
@pytest.mark.parametrize("axes", [1, 2, 3])
@pytest.mark.slow
def test_drawn_convolutions(axes, dtype, tolerance, count):
    rng = random.Random(axes)
    torch.manual_seed(axes)
    for _ in range(count):
        check_conv(rng, axes, dtype, tolerance)


def check_conv(rng, axes, dtype=torch.float64, tolerance=1e-12):
    layer, arguments, x, pads = drawn_conv(rng, axes, dtype)
    ours = ours_like(layer, GridConv, dtype)
    compare(layer, ours, lattice(*arguments), x, pads, rng.choice(draws.LAYOUTS), tolerance, (layer, arguments))


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")
@draws.by_hypothesis
def test_any_convolution(rng, axes):
    check_conv(rng, axes)


def drawn_transpose(rng, axes, dtype):
    while True:
        lengths, kernel = draws.size(rng, axes), draws.numbers(rng, axes, 1, 3)
        stride, dilation = draws.numbers(rng, axes, 1, 3), draws.numbers(rng, axes, 1, 3)
        padding, more = draws.numbers(rng, axes, 0, 2), draws.numbers(rng, axes, 0, 2)
        try:
            transposed_lattice(lengths, kernel, stride, padding, more, dilation)
        except ValueError:
            continue
        groups = rng.choice([1, 1, 2, 3])
        feats = groups * rng.randint(1, 3), groups * rng.randint(1, 3)
        layer = CONV_TRANSPOSE[axes - 1](
            *feats,
            draws.spread(kernel, axes),
            stride,
            padding,
            more,
            groups,
            rng.random() < 0.7,
            dilation,
            dtype=dtype,
        )
        arguments = lengths, kernel, stride, padding, more, dilation
        return layer, arguments, draws.images(rng, feats[0], lengths, dtype)


@pytest.mark.parametrize(
    ("dtype", "tolerance", "count"), [(torch.float64, 1e-12, 60), (torch.float32, 1e-4, 15)], ids=["double", "float"]
)
@pytest.mark.parametrize("axes", [1, 2, 3])
@pytest.mark.slow
def test_drawn_transposed_convolutions(axes, dtype, tolerance, count):
    rng = random.Random(axes)
    torch.manual_seed(axes)
    for _ in range(count):
        check_transpose(rng, axes, dtype, tolerance)


def check_transpose(rng, axes, dtype=torch.float64, tolerance=1e-12):
    layer, arguments, x = drawn_transpose(rng, axes, dtype)
    ours = ours_like(layer, GridConvTranspose, dtype)
    graph, layout = transposed_lattice(*arguments), rng.choice(draws.LAYOUTS)
    compare(layer, ours, graph, x, None, layout, tolerance, (layer, arguments))


@draws.by_hypothesis
@pytest.mark.slow
def test_any_transposed_convolution(rng, axes):
    check_transpose(rng, axes)


TABLE = [
    dict(kernel_size=1),
    dict(kernel_size=3),
    dict(kernel_size=3, padding=1),
    dict(kernel_size=3, padding="same"),
    dict(kernel_size=3, padding="valid"),
    dict(kernel_size=3, stride=2),
    dict(kernel_size=3, stride=2, padding=1),
    dict(kernel_size=3, dilation=2),
    dict(kernel_size=3, dilation=2, padding="same"),
    dict(kernel_size=2, stride=3, padding=1, dilation=3),
    dict(kernel_size=7),
    dict(kernel_size=3, groups=2),
    dict(kernel_size=3, groups=4),  # depthwise
    dict(kernel_size=3, bias=False),
]


@pytest.mark.parametrize("layout", draws.LAYOUTS)
@pytest.mark.parametrize("axes", [1, 2, 3])
@pytest.mark.parametrize("options", TABLE, ids=str)
def test_every_option(options, axes, layout):
    torch.manual_seed(0)
    lengths = (7, 8, 7)[:axes]
    theirs = CONV[axes - 1](4, 8, **options).double()
    ours = ours_like(theirs, GridConv, torch.float64)
    graph = lattice(lengths, **{k: v for k, v in options.items() if k not in ("groups", "bias")})
    compare(theirs, ours, graph, torch.randn(2, 4, *lengths, dtype=torch.float64), None, layout)


def test_several_signals_on_every_grid_of_a_batch():
    torch.manual_seed(0)
    layer, graph = GridConv(3, 4, 3).double(), lattice((5, 6), 3, 2)
    x = torch.randn(2 * 30, 3, 2, 3, dtype=torch.float64)
    one_by_one = torch.cat([layer(graph, part) for part in x.split(30)])
    for layer.dense in (True, False):
        y = layer(dgl.batch([graph] * 2), x)
        assert y.shape == (2 * 4, 3, 2, 4)
        torch.testing.assert_close(y, one_by_one, rtol=0, atol=1e-12)


def test_more_axes_than_torch_has():
    torch.manual_seed(0)
    x, weight = torch.randn(2, 3, 2, 3, 2).double(), torch.randn(1, 1, 2, 2, 1, 2).double()
    graph = lattice(x.shape[:4], weight.shape[2:])
    y = grid_conv(graph, x.reshape(36, 1, 2)[..., :1], weight).view(1, 2, 2, 2)
    windows = x[..., 0]
    for axis, length in enumerate(weight.shape[2:]):
        windows = windows.unfold(axis, length, 1)
    torch.testing.assert_close(y, torch.einsum("abcdijkl,ijkl->abcd", windows, weight[0, 0]), rtol=0, atol=1e-12)


@pytest.mark.parametrize(("theirs", "ours"), [(nn.Conv2d, GridConv), (nn.ConvTranspose2d, GridConvTranspose)])
@pytest.mark.parametrize("bias", [True, False])
def test_starts_as_torch_does(theirs, ours, bias):
    torch.manual_seed(3)
    expected = theirs(4, 6, (3, 2), groups=2, bias=bias).state_dict()
    torch.manual_seed(3)
    got = ours(4, 6, (3, 2), groups=2, bias=bias).state_dict()
    assert got.keys() == expected.keys()
    assert all(torch.equal(got[name], expected[name]) for name in got)


@pytest.mark.parametrize("dense", [True, False])
def test_differentiable_twice(dense):
    torch.manual_seed(0)
    layer, graph = GridConv(2, 4, 3, groups=2, dense=dense).double(), lattice((4, 4), 3, 2, 1)
    x = torch.randn(16, 2, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda x, weight: grid_conv(graph, x, weight, None, 2, dense=dense), (x, layer.weight)
    )
    assert torch.autograd.gradgradcheck(lambda x: layer(graph, x), (x,))


# ---------------------------------------------------------------- the textbooks


@pytest.mark.parametrize("dense", [True, False])
def test_the_textbook_gradients(dense):
    """dL/db = sum of the error; dL/dW = convolution of input and error; dL/dx = wide convolution of the error with
    the rotated kernel (stride 1)."""
    torch.manual_seed(0)
    x = torch.randn(1, 1, 7, 6, dtype=torch.float64)
    layer = GridConv(1, 1, (3, 2), dense=dense).double()
    nodes = to_nodes(x).requires_grad_()
    y = layer(lattice((7, 6), (3, 2)), nodes)
    error = torch.randn_like(y)
    dx, dw, db = torch.autograd.grad(y, [nodes, layer.weight, layer.bias], error)

    torch.testing.assert_close(db, error.sum().view(1))
    by_error = grid_conv(lattice((7, 6), (5, 5)), to_nodes(x), error.view(1, 1, 5, 5))
    torch.testing.assert_close(dw.flatten(), by_error.flatten())
    wide = lattice((5, 5), (3, 2), padding="wide")
    torch.testing.assert_close(dx, grid_conv(wide, error, layer.weight.flip(2, 3)))


def test_fractionally_strided_is_a_convolution_with_zeros_between_the_inputs():
    torch.manual_seed(0)
    x, weight = torch.randn(2, 3, 4, 5).double(), torch.randn(3, 2, 3, 3).double()
    stride, padding, more = 2, 1, 1
    graph = transposed_lattice((4, 5), 3, stride, padding, more)
    y = grid_conv(graph, to_nodes(x), weight, transposed=True)

    apart = x.new_zeros(2, 3, 7, 9)
    apart[:, :, ::stride, ::stride] = x
    pads = (3 - 1 - padding, 3 - 1 - padding + more)
    rotated = weight.flip(2, 3).transpose(0, 1)
    expected = grid_conv(lattice((7, 9), 3, padding=(pads, pads)), to_nodes(apart), rotated)
    torch.testing.assert_close(y, expected, rtol=0, atol=1e-12)


def test_the_transposed_layer_is_the_gradient_for_the_input():
    torch.manual_seed(0)
    graph, weight = lattice((6, 7), 3, 2, 1), torch.randn(4, 2, 3, 3).double()
    x = torch.randn(42, 5, 2).double().requires_grad_()
    y = grid_conv(graph, x, weight)
    error = torch.randn_like(y)
    back = dgl.reverse(graph, copy_ndata=True, copy_edata=True)
    (expected,) = torch.autograd.grad(y, x, error)
    for dense in (True, False):
        torch.testing.assert_close(grid_conv(back, error, weight, transposed=True, dense=dense), expected)


# ---------------------------------------------------------------- other graphs with taps


@pytest.mark.parametrize("copies", [1, 3])
def test_a_pixel_graph_is_a_lattice(copies):
    torch.manual_seed(0)
    layer, graph = GridConv(2, 3, 3).double(), pixel_batch((5, 6), copies)
    x = torch.randn(30 * copies, 2, dtype=torch.float64)
    assert whole(graph, (3, 3)).copies == copies
    expected = F.conv2d(to_images(x, (5, 6)), layer.weight, layer.bias, padding=1)
    torch.testing.assert_close(to_images(layer(graph, x), (5, 6)), expected)
    layer.dense = False
    torch.testing.assert_close(to_images(layer(graph, x), (5, 6)), expected)


def test_masked_pixel_graph():
    torch.manual_seed(0)
    mask = torch.rand(9 * 8) < 0.7
    graph = dgl.node_subgraph(pixel_graph((9, 8)), mask.nonzero().flatten())
    layer, x = GridConv(2, 3, 3).double(), torch.randn(4, 2, 9, 8, dtype=torch.float64)
    assert whole(graph, (3, 3)) is None
    masked = F.conv2d(x * mask.view(9, 8), layer.weight, layer.bias, padding=1)
    torch.testing.assert_close(layer(graph, to_nodes(x)[mask]), to_nodes(masked)[mask])


def test_an_edge_cut_out_passes_messages():
    torch.manual_seed(0)
    layer, graph, x = GridConv(1, 1, 3), lattice((5, 5), 3), torch.randn(25, 1)
    before = layer(graph, x)
    graph.remove_edges([0])
    after = layer(graph, x)
    torch.testing.assert_close(before[0] - after[0], layer.weight[0, 0, 0, 0] * x[0])
    torch.testing.assert_close(before[1:], after[1:])


def test_node_without_in_edges_gets_the_bias():
    layer = GridConvTranspose(1, 2, 1)
    for dense in (True, False):
        layer.dense = dense
        y = layer(transposed_lattice((2, 2), 1, stride=3, output_padding=1), torch.ones(4, 1)).view(5, 5, 2)
        assert torch.equal(y[1, 1], layer.bias)
        assert torch.equal(y[4, 4], layer.bias)


def test_edge_conditioned_on_one_hot_taps_is_the_same_layer():
    torch.manual_seed(0)
    conv = nn.Conv2d(2, 3, 3, padding=1).double()
    layer = ECConv(2, 3, 9, edge_func=nn.Linear(9, 6, bias=False), reduce="sum").double()
    with torch.no_grad():
        layer.edge_func.weight.copy_(conv.weight.flatten(2).permute(1, 0, 2).reshape(6, 9))
        layer.bias.copy_(conv.bias)
    graph, x = pixel_graph((6, 5)), torch.randn(4, 2, 6, 5, dtype=torch.float64)
    one_hot = F.one_hot(graph.edata["tap"], 9).double()
    got = to_images(layer(graph, to_nodes(x), one_hot), (6, 5))
    torch.testing.assert_close(got, conv(x), rtol=0, atol=1e-12)


@pytest.mark.parametrize("side", [28, 64])
def test_the_same_weights_on_any_size(side):
    torch.manual_seed(0)
    layer, x = GridConv(1, 4, 5), torch.randn(2, 1, side, side)
    expected = F.conv2d(x, layer.weight, layer.bias, 2, 2)
    for layer.dense in (True, False):
        y = layer(lattice((side, side), 5, 2, 2), to_nodes(x))
        torch.testing.assert_close(to_images(y, expected.shape[2:]), expected, rtol=1e-4, atol=1e-5)


# ---------------------------------------------------------------- arguments

CASES = [
    Case("conv", lambda: GridConv(4, 6, 3), None, None, in_feats=4),
    Case("options", lambda: GridConv(4, 6, (3, 2, 1), groups=2, bias=False, dense=False), None, None, in_feats=4),
    Case("transposed", lambda: GridConvTranspose(4, 6, (3, 2), groups=2), None, None, in_feats=4),
]


@pytest.mark.parametrize("check", [*ARGUMENTS, sparse_tensors_are_refused], ids=lambda check: check.__name__)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_arguments(case, check):
    check(case)


# ---------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (dict(in_feats=3, out_feats=4, kernel_size=3, groups=2), "widths divisible by groups, got 3 -> 4, 2"),
        (dict(in_feats=4, out_feats=3, kernel_size=3, groups=2), "widths divisible by groups, got 4 -> 3, 2"),
        (dict(in_feats=4, out_feats=4, kernel_size=3, groups=0), "groups >= 1, got 0"),
        (dict(in_feats=0, out_feats=4, kernel_size=3), "in_feats >= 1, got 0"),
        (dict(in_feats=1, out_feats=4, kernel_size=(3, 0)), "expected kernel_size >= 1, got 0"),
        (dict(in_feats=1, out_feats=4, kernel_size=2.5), "expected an integer kernel_size >= 1, got 2.5"),
        (dict(in_feats=1, out_feats=4, kernel_size=()), r"expected a kernel_size with an axis or more, got \(\)"),
    ],
)
@pytest.mark.parametrize("kind", [GridConv, GridConvTranspose])
def test_invalid_constructor_arguments(arguments, message, kind):
    with pytest.raises(ValueError, match=f"{kind.__name__}.*{message}"):
        kind(**arguments)


@pytest.mark.parametrize("dense", [True, False])
def test_invalid_inputs(dense):
    layer, graph = GridConv(2, 3, 3, dense=dense), lattice((5, 5), 3)
    with pytest.raises(ValueError, match=r"of shape \(25, \.\.\., 2\), got \(24, 2\)"):
        layer(graph, torch.ones(24, 2))
    with pytest.raises(ValueError, match=r"of shape \(25, \.\.\., 2\), got \(25, 3\)"):
        layer(graph, torch.ones(25, 3))
    with pytest.raises(TypeError, match=r"expected floating-point x.*, got torch\.int64"):
        layer(graph, torch.ones(25, 2, dtype=torch.int64))
    with pytest.raises(ValueError, match="expected neither edge weights nor edge features"):
        layer(graph, torch.ones(25, 2), torch.ones(graph.num_edges()))
    with pytest.raises(ValueError, match="taps: expected numbers from 0 to 8, got 0 to 24"):
        layer(lattice((5, 5), 5), torch.ones(25, 2))
    graph = dgl.graph(([0], [1]))
    with pytest.raises(KeyError, match="tap"):
        layer(graph, torch.ones(2, 2))
    graph.edata["tap"] = torch.tensor([-1])
    with pytest.raises(ValueError, match="taps: expected numbers from 0 to 8, got -1 to -1"):
        layer(graph, torch.ones(2, 2))
    for wrong in (torch.zeros(1), torch.zeros(1, 9, dtype=torch.int64)):
        graph.edata["tap"] = wrong
        with pytest.raises(ValueError, match=r"expected .*, got"):
            layer(graph, torch.ones(2, 2))


@pytest.mark.parametrize("dense", [True, False])
def test_rows_that_do_not_match_the_lattice(dense):
    weight = torch.ones(1, 1, 3, 3)
    for rows in (24, 50):
        with pytest.raises(ValueError, match=f"x: expected .*25.*, got .*{rows}"):
            grid_conv(lattice((5, 5), 3), torch.ones(rows, 1), weight, dense=dense)


def test_empty_batches_and_graphs():
    layer = GridConv(2, 3, 3)
    for layer.dense in (True, False):
        assert layer(lattice((5, 5), 3), torch.ones(25, 0, 2)).shape == (9, 0, 3)
    empty = dgl.graph(([], []), num_nodes=2)
    empty.edata["tap"] = torch.zeros(0, dtype=torch.int64)
    assert torch.equal(layer(empty, torch.ones(2, 2)), layer.bias.expand(2, 3))
