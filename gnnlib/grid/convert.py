"""PyTorch's convolution and pooling functions as layers on a lattice, with the same arguments."""

from collections.abc import Callable, Sequence
from functools import lru_cache, partial, wraps
from typing import Any, NamedTuple, TypeAlias

import torch.nn.functional as F
from torch import Tensor

from gnnlib.graph import GraphLike
from gnnlib.grid._lattice import adaptive_lattice, window_lattice
from gnnlib.grid.conv import grid_conv
from gnnlib.grid.dense import to_images, to_nodes
from gnnlib.grid.pool import GridPool
from gnnlib.grid.window import Ints, Padding, Window

__all__ = ["LAYERS", "Step"]

Lattice: TypeAlias = Callable[[], GraphLike]


class Step(NamedTuple):
    """A function of images as ``layer(lattice(), x)`` on nodes.

    The output has ``channels`` maps of ``size`` cells. A convolution has a weight, and optionally a bias.
    """

    size: tuple[int, ...]
    channels: int
    lattice: Lattice
    layer: Callable[[GraphLike, Tensor], Tensor]
    weight: Tensor | None = None
    bias: Tensor | None = None


LAYERS: dict[Callable[..., Any], Callable[..., Tensor]] = {}
"""PyTorch's functions, which its modules call too, and their replacements."""


def _replaces(*functions: Callable[..., Any]) -> Callable[[Callable[..., Step]], Callable[..., Tensor]]:
    """Decorator: replace PyTorch's functions, one for each number of axes, by a function that runs the step.

    With the dense backend it calls PyTorch's function. Otherwise output images and gradients are made contiguous, so
    that dropout masks equal those without graphs and normalisation has correct gradients. (PyTorch 2.13's are wrong for
    the strides of node features, channels last with the images in between, in ``instance_norm``, and in ``batch_norm``
    of one image.)
    """

    def decorate(step: Callable[..., Step]) -> Callable[..., Tensor]:
        @wraps(step)
        def run(input: Tensor, *args: Any, dense: bool = True, **options: Any) -> Tensor:
            if dense:
                return functions[input.dim() - 3](input, *args, **options)
            size, _, lattice, layer, *_ = step(input, *args, **options)
            images = input.view_as(input)
            if images.requires_grad:
                images.register_hook(Tensor.contiguous)
            return to_images(layer(lattice(), to_nodes(images)), size).contiguous()

        run.step = step  # type: ignore[attr-defined]
        LAYERS.update(dict.fromkeys(functions, run))
        return run

    return decorate


@_replaces(F.conv1d, F.conv2d, F.conv3d)
def conv(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Ints = 1,
    padding: Padding = 0,
    dilation: Ints = 1,
    groups: int = 1,
) -> Step:
    _check(input, weight, weight.shape[1] * groups)
    window = _window(Window.of, input.shape[2:], weight.shape[2:], stride, padding, dilation)
    layer = partial(grid_conv, weight=weight, bias=bias, groups=groups, dense=False)
    return Step(window.out_size, len(weight), partial(_lattice, window), layer, weight, bias)


@_replaces(F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)
def conv_transpose(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Ints = 1,
    padding: Padding = 0,
    output_padding: Ints = 0,
    groups: int = 1,
    dilation: Ints = 1,
) -> Step:
    _check(input, weight, len(weight))
    window = _window(Window.transposed, input.shape[2:], weight.shape[2:], stride, padding, output_padding, dilation)
    layer = partial(grid_conv, weight=weight, bias=bias, groups=groups, transposed=True, dense=False)
    lattice = partial(_lattice, window, transposed=True)
    return Step(window.size, weight.shape[1] * groups, lattice, layer, weight, bias)


@_replaces(F.max_pool1d, F.max_pool2d, F.max_pool3d)
def max_pool(
    input: Tensor,
    kernel_size: Ints,
    stride: Ints | None = None,
    padding: Ints = 0,
    dilation: Ints = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Step:
    window = _window(Window.of, input.shape[2:], kernel_size, stride or kernel_size, padding, dilation, ceil_mode)
    return _pool(input, window, "max")


@_replaces(F.avg_pool1d, F.avg_pool2d, F.avg_pool3d)
def avg_pool(
    input: Tensor,
    kernel_size: Ints,
    stride: Ints | None = None,
    padding: Ints = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: None = None,
) -> Step:
    window = _window(Window.of, input.shape[2:], kernel_size, stride or kernel_size, padding, 1, ceil_mode)
    return _pool(input, window, "mean", count_include_pad)


@_replaces(F.adaptive_max_pool1d, F.adaptive_max_pool2d, F.adaptive_max_pool3d)
def adaptive_max_pool(input: Tensor, output_size: Ints | Sequence[int | None], return_indices: bool = False) -> Step:
    return _adaptive(input, output_size, "max")


@_replaces(F.adaptive_avg_pool1d, F.adaptive_avg_pool2d, F.adaptive_avg_pool3d)
def adaptive_avg_pool(input: Tensor, output_size: Ints | Sequence[int | None]) -> Step:
    return _adaptive(input, output_size, "mean")


def _pool(images: Tensor, window: Window, reduce: str, count_include_pad: bool = True) -> Step:
    layer = _pool_layer(reduce, count_include_pad)
    return Step(window.out_size, images.shape[1], partial(_lattice, window), layer)


def _adaptive(images: Tensor, output_size: Ints | Sequence[int | None], reduce: str) -> Step:
    size = tuple(images.shape[2:])
    sizes = output_size if isinstance(output_size, Sequence) else (output_size,) * len(size)
    if len(sizes) != len(size):
        raise ValueError(f"output_size: expected one for each axis of images {tuple(images.shape)}, got {sizes}")
    out = tuple(n if o is None else o for n, o in zip(size, sizes))
    lattice = partial(_adaptive_lattice, size, out)
    return Step(out, images.shape[1], lattice, _pool_layer(reduce, True))


def _check(images: Tensor, weight: Tensor, channels: int) -> None:
    if images.dim() != weight.dim() or images.shape[1] != channels:
        sizes = ", ".join("HWD"[: weight.dim() - 2])
        raise ValueError(f"expected images of shape (B, {channels}, {sizes}), got {tuple(images.shape)}")


def _window(factory: Callable[..., Window], *arguments: Any) -> Window:
    return _cached_window(factory, *(tuple(value) if isinstance(value, list | tuple) else value for value in arguments))


@lru_cache(maxsize=256)
def _cached_window(factory: Callable[..., Window], *arguments: Any) -> Window:
    return factory(*arguments)


@lru_cache(maxsize=256)
def _pool_layer(reduce: str, count_include_pad: bool) -> GridPool:
    return GridPool(reduce, count_include_pad=count_include_pad, dense=False)


@lru_cache(maxsize=64)
def _lattice(window: Window, transposed: bool = False) -> GraphLike:
    """One graph for all calls, with the results that layers cache on it."""
    return window_lattice(window, transposed=transposed)


@lru_cache(maxsize=64)
def _adaptive_lattice(size: tuple[int, ...], out: tuple[int, ...]) -> GraphLike:
    return adaptive_lattice(size, out)
