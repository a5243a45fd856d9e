"""Windows, images and layouts drawn at random, and the comparison with PyTorch that every grid layer must pass."""

import random

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gnnlib._platform.dgl import dgl
from gnnlib.grid import to_images, to_nodes


def by_hypothesis(test):
    """``test(rng, axes)`` on what hypothesis draws; a failure is shrunk."""
    torch.manual_seed(0)
    wrapped = given(rng=st.randoms(use_true_random=False), axes=st.integers(1, 3))(test)
    return settings(max_examples=60, deadline=None, derandomize=True)(wrapped)


def numbers(rng: random.Random, axes: int, low: int, high: int):
    """One number for each axis, or one for all of them."""
    lengths = [rng.randint(low, high) for _ in range(axes)]
    return lengths[0] if rng.random() < 0.3 else tuple(lengths)


def spread(value, axes: int) -> tuple:
    return (value,) * axes if isinstance(value, int) else tuple(value)


def size(rng: random.Random, axes: int) -> tuple[int, ...]:
    return tuple(rng.randint(1, (9, 6, 4)[axes - 1]) for _ in range(axes))


def images(rng: random.Random, channels: int, lengths: tuple[int, ...], dtype=torch.float64) -> torch.Tensor:
    return torch.randn(rng.randint(1, 3), channels, *lengths, dtype=dtype)


def run(layer, graph, x: torch.Tensor, out_size: tuple[int, ...], layout: str) -> torch.Tensor:
    """The layer on images (B, C, *size): each a signal on one grid, or each a grid in a batch."""
    if layout == "signals":
        return to_images(layer(graph, to_nodes(x)), out_size)
    if layout == "channels last":
        return to_images(layer(graph, to_nodes(x).contiguous()), out_size)
    batch = dgl.batch([graph] * len(x))
    return to_images(layer(batch, to_nodes(x, len(x)).squeeze(1)), out_size)


def gradients(y: torch.Tensor, inputs: list[torch.Tensor]) -> list[torch.Tensor]:
    """y and the gradients of a sum of it with fixed weights."""
    weights = torch.arange(y.numel(), dtype=torch.float64).mul(0.7).cos().to(y.dtype).view(y.shape)
    return [y, *torch.autograd.grad((y * weights).sum(), inputs)]


def assert_same(got: list[torch.Tensor], expected: list[torch.Tensor], tolerance: float, what: object = None) -> None:
    """Equal up to a tolerance that is absolute for numbers about 1 and relative for larger ones."""
    for one, other in zip(got, expected, strict=True):
        assert one.shape == other.shape, what
        if other.numel():
            error = (one - other).abs().max() / max(1.0, other.abs().max())
            assert error < tolerance, (float(error), what)


LAYOUTS = ["signals", "channels last", "batch"]
