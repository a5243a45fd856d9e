"""GridPool is PyTorch's pooling, on both paths: values, gradients, ties and what is not a number."""

import itertools
import math
import random
from functools import partial

import pytest
import torch
import torch.nn.functional as F

from gnnlib._platform.dgl import dgl
from gnnlib.grid import GridPool, adaptive_lattice, lattice, to_images, to_nodes, transposed_lattice
from gnnlib.images import pixel_graph
from tests.grid import draws

MAX = F.max_pool1d, F.max_pool2d, F.max_pool3d
AVG = F.avg_pool1d, F.avg_pool2d, F.avg_pool3d
ADAPTIVE = {
    "max": (F.adaptive_max_pool1d, F.adaptive_max_pool2d, F.adaptive_max_pool3d),
    "mean": (F.adaptive_avg_pool1d, F.adaptive_avg_pool2d, F.adaptive_avg_pool3d),
}


def compare(theirs, ours, graph, x, layout="signals", tolerance=1e-12, what=None):
    """Output and gradient of both paths against torch's function on x (B, C, *size)."""
    x = x.requires_grad_()
    y = theirs(x)
    expected = draws.gradients(y, [x])
    for ours.dense in (True, False):
        got = draws.run(ours, graph, x, tuple(y.shape[2:]), layout)
        draws.assert_same(draws.gradients(got, [x]), expected, tolerance, (ours.dense, layout, what))


def torch_pool(reduce, axes, kernel, stride, padding, dilation, ceil_mode, count_include_pad):
    if reduce == "max":
        return lambda x: MAX[axes - 1](x, kernel, stride, padding, dilation, ceil_mode)
    return lambda x: AVG[axes - 1](x, kernel, stride, padding, ceil_mode, count_include_pad)


def drawn_pool(rng, axes, reduce):
    """A lattice's arguments; no window that sees nothing (torch: -inf), none that torch refuses."""
    while True:
        lengths, kernel = draws.size(rng, axes), draws.numbers(rng, axes, 1, 4)
        stride = draws.numbers(rng, axes, 1, 4)
        dilation = draws.numbers(rng, axes, 1, 2) if reduce == "max" else 1
        padding = tuple(rng.randint(0, c // 2) for c in draws.spread(kernel, axes))
        arguments = lengths, kernel, stride, padding, dilation, rng.random() < 0.5
        try:
            graph = lattice(*arguments)
        except ValueError:
            continue
        refused = axes == 3 and reduce == "mean" and any(c > n for c, n in zip(draws.spread(kernel, 3), lengths))
        if graph.in_degrees().min() > 0 and not refused:
            return arguments


@pytest.mark.parametrize(("dtype", "count"), [(torch.float64, 60), (torch.float32, 15)], ids=["double", "float"])
@pytest.mark.parametrize("axes", [1, 2, 3])
@pytest.mark.parametrize("reduce", ["max", "mean"])
@pytest.mark.slow
def test_drawn_poolings(reduce, axes, dtype, count):
    rng = random.Random(axes)
    torch.manual_seed(axes)
    for _ in range(count):
        check_pool(rng, axes, reduce, dtype, 1e-12 if dtype == torch.float64 else 1e-4)


def check_pool(rng, axes, reduce, dtype=torch.float64, tolerance=1e-12):
    arguments, include = drawn_pool(rng, axes, reduce), rng.random() < 0.5
    x = draws.images(rng, rng.randint(1, 3), arguments[0], dtype)
    theirs, ours = torch_pool(reduce, axes, *arguments[1:], include), GridPool(reduce, count_include_pad=include)
    layout = rng.choice(draws.LAYOUTS)
    compare(theirs, ours, lattice(*arguments), x, layout, tolerance, (arguments, include))


@draws.by_hypothesis
@pytest.mark.slow
def test_any_pooling(rng, axes):
    check_pool(rng, axes, rng.choice(["max", "mean"]))


@pytest.mark.parametrize("layout", draws.LAYOUTS)
@pytest.mark.parametrize("reduce", ["max", "mean"])
@pytest.mark.parametrize(
    ("lengths", "out_size"),
    [
        ((7,), (3,)),
        ((7,), (1,)),
        ((3,), (5,)),  # more cells out than in
        ((8, 8), (4, 4)),
        ((7, 10), (3, 4)),
        ((5, 6), (5, 6)),
        ((4, 5, 6), (2, 3, 4)),
        ((4, 5, 6), (1, 1, 1)),
    ],
)
def test_adaptive_and_global_pooling(lengths, out_size, reduce, layout):
    torch.manual_seed(0)
    x = torch.randn(2, 3, *lengths, dtype=torch.float64)
    theirs = ADAPTIVE[reduce][len(lengths) - 1]
    compare(lambda x: theirs(x, out_size), GridPool(reduce), adaptive_lattice(lengths, out_size), x, layout)


def test_global_pooling_is_the_mean_and_the_maximum():
    x = torch.randn(2, 3, 5, 4, dtype=torch.float64)
    for reduce, expected in (("mean", x.mean((2, 3))), ("max", x.amax((2, 3)))):
        torch.testing.assert_close(GridPool(reduce)(adaptive_lattice((5, 4), 1), to_nodes(x))[0], expected)


@pytest.mark.parametrize("dense", [True, False])
def test_ties_go_to_the_first(dense):
    x = torch.tensor([2.0, 2.0, 2.0, 1.0, 3.0, 3.0]).view(6, 1).requires_grad_()
    GridPool("max", dense=dense)(lattice(6, 3, stride=3), x).sum().backward()
    assert x.grad.flatten().tolist() == [1, 0, 0, 0, 1, 0]


def test_ties_as_torch_in_every_window():
    torch.manual_seed(0)
    for arguments in (
        dict(kernel_size=3, stride=2, padding=1),
        dict(kernel_size=3, stride=1, dilation=2),
        dict(kernel_size=2, stride=2, ceil_mode=True),
    ):
        x = torch.randint(0, 3, (2, 3, 7, 7)).double()
        compare(partial(F.max_pool2d, **arguments), GridPool("max"), lattice((7, 7), **arguments), x)


@pytest.mark.parametrize("reduce", ["max", "mean"])
def test_nan(reduce):
    x = torch.randn(1, 1, 6, 6)
    x[0, 0, 1, 1], x[0, 0, 4, 4], x[0, 0, 0, 5] = float("nan"), float("inf"), float("-inf")
    expected = (F.max_pool2d if reduce == "max" else F.avg_pool2d)(x, 3, 1, 1)
    for dense in (True, False):
        y = to_images(GridPool(reduce, dense=dense)(lattice((6, 6), 3, 1, 1), to_nodes(x)), (6, 6))
        torch.testing.assert_close(y, expected, equal_nan=True)


@pytest.mark.parametrize("dense", [True, False])
def test_the_textbook_gradients(dense):
    """Below a pooling the error goes to the argument of the maximum, or is spread evenly over the window."""
    torch.manual_seed(0)
    x, graph = torch.randn(36, 1, dtype=torch.float64, requires_grad=True), lattice((6, 6), 2, stride=2)
    error = torch.randn(9, 1, dtype=torch.float64)
    up = error.view(3, 3).repeat_interleave(2, 0).repeat_interleave(2, 1)

    y = GridPool("mean", dense=dense)(graph, x)
    torch.testing.assert_close(torch.autograd.grad(y, x, error)[0].view(6, 6), up / 4)

    y = GridPool("max", dense=dense)(graph, x)
    above = y.view(3, 3).repeat_interleave(2, 0).repeat_interleave(2, 1)
    expected = torch.where(x.view(6, 6) == above, up, 0.0)
    torch.testing.assert_close(torch.autograd.grad(y, x, error)[0].view(6, 6), expected)


@pytest.mark.parametrize(
    ("arguments", "pads"),
    [
        (((6, 6), 3, 2, ((0, 1), (0, 1))), (0, 1, 0, 1)),  # areas tell it from ceil mode
        (((6, 6), 2, 1, "same"), (0, 1, 0, 1)),
        (((6, 6), 3, 1, "wide"), (2, 2, 2, 2)),  # more than half of the window
    ],
)
def test_windows_that_torch_has_after_padding_only(arguments, pads):
    torch.manual_seed(0)
    lengths, kernel, stride, _ = arguments
    x = torch.randn(2, 3, *lengths, dtype=torch.float64)
    for layout in draws.LAYOUTS:
        graph = lattice(*arguments)
        mean, largest = GridPool("mean"), GridPool("max")
        compare(lambda x: F.avg_pool2d(F.pad(x, pads), kernel, stride), mean, graph, x, layout)
        compare(lambda x: F.max_pool2d(F.pad(x, pads, value=-torch.inf), kernel, stride), largest, graph, x, layout)


def test_a_dilated_mean():
    torch.manual_seed(0)
    x = torch.randn(2, 3, 8, dtype=torch.float64)
    kernel = torch.full((3, 1, 3), 1 / 3, dtype=torch.float64)
    graph = lattice(8, 3, 2, 1, 2)
    compare(lambda x: F.conv1d(x, kernel, None, 2, 1, 2, 3), GridPool("mean"), graph, x)


def test_any_graph_will_do():
    graph = dgl.graph(([0, 1, 2], [2, 2, 0]))
    x = torch.tensor([[1.0], [5.0], [7.0]])
    assert GridPool("max")(graph, x).flatten().tolist() == [7, 0, 5]
    assert GridPool("mean")(graph, x).flatten().tolist() == [7, 0, 3]


def test_mean_at_the_border_of_a_pixel_graph():
    x = torch.randn(30, 2, dtype=torch.float64)
    expected = F.avg_pool2d(to_images(x, (5, 6)), 3, 1, 1, count_include_pad=False)
    for dense in (True, False):
        y = GridPool("mean", dense=dense)(pixel_graph((5, 6)), x)
        torch.testing.assert_close(to_images(y, (5, 6)), expected)


def test_on_a_reversed_lattice_cells_spread():
    graph, x = transposed_lattice((3, 3), 2, stride=2), torch.randn(9, 2)
    y = to_images(GridPool("max")(graph, x), (6, 6))
    torch.testing.assert_close(y, F.interpolate(to_images(x, (3, 3)), scale_factor=2))


def test_invalid_arguments():
    with pytest.raises(ValueError, match="expected reduce to be one of 'max', 'mean', got 'min'"):
        GridPool("min")
    for dense in (True, False):
        with pytest.raises(ValueError, match=r"expected x of shape \(16, \.\.\., F\), got \(32, 3\)"):
            GridPool(dense=dense)(lattice((4, 4), 2), torch.ones(32, 3))


@pytest.mark.slow
def test_every_small_window_is_torchs_or_an_error_in_both():
    """Windows larger than the input too, which torch has when sizes are rounded up."""
    x = torch.randn(1, 2, 5, dtype=torch.float64)
    options = itertools.product(range(1, 6), range(1, 6), range(1, 4), range(3), (1, 2), (False, True))
    for length, kernel, stride, padding, dilation, ceil_mode in options:
        if 2 * padding > kernel:
            continue
        images, window = x[..., :length], (kernel, stride, padding, dilation, ceil_mode)
        try:
            want = F.max_pool1d(images, *window)
        except RuntimeError:
            with pytest.raises(ValueError, match="expected a window within the padded input"):
                lattice(length, *window)
            continue
        graph = lattice(length, *window)
        for dense in (True, False):
            got = to_images(GridPool("max", dense=dense)(graph, to_nodes(images)), want.shape[2:])
            seen = want > -math.inf  # where a window sees nothing, the maximum is 0 here
            assert torch.equal(got[seen], want[seen]), (length, window, dense)
            assert got.shape == want.shape
