"""The arithmetic of windows: PyTorch's sizes, the textbooks' names, and what cannot be."""

import itertools

import numpy as np
import pytest
import scipy.signal
import torch
import torch.nn.functional as F

from gnnlib.grid import Window


def test_sizes_are_those_of_torch():
    settings = itertools.product(range(1, 9), (1, 2, 3), (1, 2, 3), (0, 1, 2), (1, 2), (False, True))
    checked = 0
    for n, kernel, stride, padding, dilation, ceil_mode in settings:
        if dilation * (kernel - 1) + 1 > n + 2 * padding:
            continue
        window = Window.of(n, kernel, stride, padding, dilation, ceil_mode)
        if not ceil_mode:
            y = F.conv1d(torch.zeros(1, 1, n), torch.zeros(1, 1, kernel), None, stride, padding, dilation)
        elif 2 * padding <= kernel:
            y = F.max_pool1d(torch.zeros(1, 1, n), kernel, stride, padding, dilation, ceil_mode)
        else:
            continue
        assert window.out_size == y.shape[2:], (window, ceil_mode)
        checked += 1
    assert checked > 500


def test_transposed_sizes_are_those_of_torch():
    settings = itertools.product(range(1, 6), (1, 2, 3), (1, 2, 3), (0, 1), (0, 1, 2), (1, 3))
    checked = 0
    for n, kernel, stride, padding, more, dilation in settings:
        if more >= max(stride, dilation):
            continue
        fine = (n - 1) * stride - 2 * padding + dilation * (kernel - 1) + more + 1
        if fine < 1:
            with pytest.raises(ValueError, match="at least one cell"):
                Window.transposed(n, kernel, stride, padding, more, dilation)
            continue
        x, weight = torch.zeros(1, 1, n), torch.zeros(1, 1, kernel)
        y = F.conv_transpose1d(x, weight, None, stride, padding, more, 1, dilation)
        window = Window.transposed(n, kernel, stride, padding, more, dilation)
        assert (window.size, window.out_size) == (y.shape[2:], (n,))
        checked += 1
    assert checked > 200


@pytest.mark.parametrize(("name", "mode"), [("narrow", "valid"), ("equal", "same"), ("wide", "full")])
def test_the_textbooks_names(name, mode):
    for n, c in itertools.product(range(5, 9), range(1, 6)):
        assert Window.of(n, c, padding=name).out_size == scipy.signal.convolve(np.ones(n), np.ones(c), mode).shape


def test_same_pads_the_rest_after():
    assert Window.of((7, 7), (4, 3), padding="same", dilation=(1, 2)).padding == ((1, 2), (2, 2))
    assert Window.of(7, 4, padding="same") == Window.of(7, 4, padding="equal")
    assert Window.of(7, 4, padding="valid") == Window.of(7, 4, padding="narrow") == Window.of(7, 4)


def test_a_dilated_window_is_wider_with_as_many_taps():
    for c, d in itertools.product(range(1, 6), range(1, 5)):
        window = Window.of(40, c, dilation=d)
        assert (window.extent, window.taps) == ((d * (c - 1) + 1,), c)


def test_padding_in_three_forms():
    assert Window.of((5, 5), 3, padding=1) == Window.of((5, 5), 3, padding=(1, 1))
    assert Window.of((5, 5), 3, padding=(1, 1)) == Window.of((5, 5), 3, padding=((1, 1), (1, 1)))
    assert Window.of((5, 5), 3, padding=((0, 1), (2, 0))).out_size == (4, 5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (dict(size=(4, 4), kernel_size=7, padding=1), r"padded input of size \(6, 6\), got one of \(7, 7\)"),
        (dict(size=(4, 4), kernel_size=3, dilation=2), r"size \(4, 4\), got one of \(5, 5\)"),
        (dict(size=(4, 4), kernel_size=2, stride=0), "stride: expected positive numbers, got 0"),
        (dict(size=(4, 4), kernel_size=2, stride=(1, -1)), r"stride: expected positive numbers, got \(1, -1\)"),
        (dict(size=(4, 4), kernel_size=0), "kernel_size: expected positive numbers, got 0"),
        (dict(size=(4, 0), kernel_size=1), r"size: expected positive numbers, got \(4, 0\)"),
        (dict(size=(), kernel_size=1), "size: expected positive numbers"),
        (dict(size=4, kernel_size=2, dilation=0), "dilation: expected positive numbers, got 0"),
        (dict(size=(4, 4), kernel_size=(2, 2, 2)), r"one for each of 2 axes, got \(2, 2, 2\)"),
        (dict(size=4, kernel_size=(2, 2)), r"one for each of 1 axes, got \(2, 2\)"),
        (dict(size=4, kernel_size=2, padding=-1), "padding: expected numbers of at least 0, got -1"),
        (dict(size=4, kernel_size=2, padding=((1, 1), (1, 1))), "padding: expected a pair"),
        (dict(size=4, kernel_size=2, padding="reflect"), "padding: expected numbers or one of .*got 'reflect'"),
        (dict(size=4, kernel_size=2, padding="same", stride=2), r"'same': expected stride 1, got \(2,\)"),
    ],
)
def test_invalid_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        Window.of(**arguments)


def test_invalid_types():
    with pytest.raises(TypeError, match=r"size: expected an integer or a sequence of integers, got 2.5"):
        Window.of(2.5, 1)
    with pytest.raises(TypeError, match="stride"):
        Window.of(5, 1, stride=(1.0,))


def test_output_padding_below_stride_or_dilation():
    assert Window.transposed(4, 2, dilation=3, output_padding=2).size == (9,)
    with pytest.raises(ValueError, match=r"output_padding: expected .* stride \(2,\) or dilation \(1,\), got 2"):
        Window.transposed(4, 2, stride=2, output_padding=2)
