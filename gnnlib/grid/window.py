"""Convolution arithmetic: sizes, padding, and the input cell of every tap (Dumoulin and Visin, 2016)."""

import operator
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import prod
from typing import TypeAlias

import numpy as np

from gnnlib._utils.calls import names_checked

__all__ = ["Ints", "Padding", "Window"]

Ints: TypeAlias = int | Sequence[int]
Padding: TypeAlias = int | str | Sequence[int | tuple[int, int]]

NAMED = {"valid": "valid", "narrow": "valid", "same": "same", "equal": "same", "wide": "wide"}
"""Names of paddings in PyTorch and in textbooks: narrow, equal-width and wide convolution."""


@names_checked()
@dataclass(frozen=True)
class Window:
    r"""A window of a convolution or pooling over a grid with any number of axes; each field has one entry per axis.

    Along an axis, tap t of output cell o is at input cell :math:`o s - p_0 + t d`, if that is inside, and

    .. math:: \mathrm{out} = \lfloor (n + p_0 + p_1 - d (c - 1) - 1) / s \rfloor + 1

    for n input cells, c taps, stride s, dilation d and :math:`p_0, p_1` cells of padding before and after them
    (Dumoulin and Visin 2016, arXiv 1603.07285, relationship 6, with padding that may differ per side, and dilation).

    ``Window(...)`` takes the fields without checks; :meth:`of` and :meth:`transposed` compute and check them.

    Example:
        >>> from gnnlib.grid import Window
        >>> Window.of((28, 28), 5, stride=2, padding=2).out_size
        (14, 14)
    """

    size: tuple[int, ...]
    kernel_size: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[tuple[int, int], ...]
    dilation: tuple[int, ...]
    out_size: tuple[int, ...]

    @staticmethod
    def of(
        size: Ints,
        kernel_size: Ints,
        stride: Ints = 1,
        padding: Padding = 0,
        dilation: Ints = 1,
        ceil_mode: bool = False,
    ) -> "Window":
        """The window of a convolution or pooling over an input of ``size``.

        Args:
            size: length of each axis; an int is one axis.
            kernel_size, stride, dilation: one for each axis, or one for all.
            padding: a number for all sides, one for each axis, or a pair (before, after) for each axis; "valid" or
                "narrow": none; "same" or "equal": as many outputs as inputs, one
                cell more after them if the total is odd; "wide": all positions in which the window overlaps the input.
            ceil_mode: round the size up, if the last window still starts inside the input or the padding before it;
                so a window may be larger than the padded input by less than its stride.

        Raises:
            TypeError: if a number is not an integer.
            ValueError: if a number is not positive, the number of values is wrong, or the padding is unknown.
            ValueError: if the padding is "same" with a stride, or the window is larger than the padded input.

        Example:
            >>> from gnnlib.grid import Window
            >>> Window.of(5, 2, stride=2).out_size, Window.of(5, 2, stride=2, ceil_mode=True).out_size
            ((2,), (3,))
            >>> Window.of(5, 4, padding="same").padding, Window.of(5, 4, padding="wide").out_size
            (((1, 2),), (8,))
        """
        lengths, kernel, steps, gaps = _positive(size, kernel_size, stride, dilation)
        pads = _padding(padding, kernel, steps, gaps)
        window = Window(lengths, kernel, steps, pads, gaps, ())
        padded = tuple(n + before + after for n, (before, after) in zip(lengths, pads))
        out = window.count(ceil_mode)
        if min(out) < 1:
            raise ValueError(f"expected a window within the padded input of size {padded}, got one of {window.extent}")
        return Window(lengths, kernel, steps, pads, gaps, out)

    @staticmethod
    def transposed(
        size: Ints,
        kernel_size: Ints,
        stride: Ints = 1,
        padding: Padding = 0,
        output_padding: Ints = 0,
        dilation: Ints = 1,
    ) -> "Window":
        """The window whose transpose maps ``size``, here ``out_size``, to (n - 1) s - p0 - p1 + d (c - 1) + 1 + more.

        Args:
            size, kernel_size, stride, padding, dilation: as in :meth:`of`
            output_padding: the ``more`` above, less than the stride or the dilation

        Raises:
            TypeError: as :meth:`of`.
            ValueError: as :meth:`of`, and if ``more`` is too large or the output is empty.

        Example:
            >>> from gnnlib.grid import Window
            >>> Window.transposed(3, 3, stride=2, padding=1, output_padding=1).size
            (6,)
        """
        lengths, kernel, steps, gaps = _positive(size, kernel_size, stride, dilation)
        more = _integers("output_padding", output_padding, len(lengths))
        if any(not 0 <= extra < max(s, d) for extra, s, d in zip(more, steps, gaps)):
            raise ValueError(
                f"output_padding: expected from 0 to below stride {steps} or dilation {gaps}, got {output_padding}"
            )
        pads = _padding(padding, kernel, steps, gaps)
        full = Window((), kernel, steps, pads, gaps, lengths).span
        fine = tuple(n - before - after + extra for n, (before, after), extra in zip(full, pads, more))
        if min(fine) < 1:
            raise ValueError(f"expected an output of at least one cell per axis, got {fine} for size {lengths}")
        return Window(fine, kernel, steps, pads, gaps, lengths)

    @property
    def taps(self) -> int:
        return prod(self.kernel_size)

    @cached_property
    def extent(self) -> tuple[int, ...]:
        """Cells from the first tap to the last: d (c - 1) + 1."""
        return tuple(d * (c - 1) + 1 for c, d in zip(self.kernel_size, self.dilation))

    @cached_property
    def span(self) -> tuple[int, ...]:
        """Cells from the first tap of the first window to the last tap of the last one."""
        return tuple((n - 1) * s + reach for n, s, reach in zip(self.out_size, self.stride, self.extent))

    def count(self, ceil_mode: bool = False) -> tuple[int, ...]:
        """The number of windows along each axis."""
        return tuple(map(_count, self.size, self.padding, self.extent, self.stride, [ceil_mode] * len(self.size)))

    @cached_property
    def ceil_mode(self) -> bool | None:
        """Whether ``out_size`` is rounded up; None if it is neither rounding of the quotient."""
        return next((ceil for ceil in (False, True) if self.count(ceil) == self.out_size), None)

    def closed(self) -> "Window":
        """The same window with exactly the padding after the input that the last output needs, which may be
        negative."""
        pads = tuple((before, end - n - before) for n, (before, _), end in zip(self.size, self.padding, self.span))
        return replace(self, padding=pads)

    def cells(self) -> list[np.ndarray]:
        """For each axis, (out, c): the input coordinate of each tap, which may be outside the input."""
        return [
            np.arange(out)[:, None] * s - before + np.arange(c) * d
            for out, s, (before, _), c, d in zip(
                self.out_size, self.stride, self.padding, self.kernel_size, self.dilation
            )
        ]


def _count(n: int, padding: tuple[int, int], extent: int, stride: int, ceil_mode: bool) -> int:
    slack = n + sum(padding) - extent
    if not ceil_mode:
        return slack // stride + 1
    out = -(-slack // stride) + 1
    return out - ((out - 1) * stride >= n + padding[0])  # the last window starts inside


def _positive(size: Ints, kernel_size: Ints, stride: Ints, dilation: Ints) -> list[tuple[int, ...]]:
    arguments = {"size": size, "kernel_size": kernel_size, "stride": stride, "dilation": dilation}
    axes = len(size) if isinstance(size, Sequence) else 1
    return [positive(name, value, axes) for name, value in arguments.items()]


def _padding(
    padding: Padding, kernel_size: Sequence[int], stride: Sequence[int], dilation: Sequence[int]
) -> tuple[tuple[int, int], ...]:
    reach = [d * (c - 1) for c, d in zip(kernel_size, dilation)]
    if isinstance(padding, str):
        name = NAMED.get(padding)
        if name is None:
            raise ValueError(f"padding: expected numbers or one of {sorted(NAMED)}, got {padding!r}")
        if name == "same" and max(stride) > 1:
            raise ValueError(f"padding={padding!r}: expected stride 1, got {tuple(stride)}")
        sides = {"valid": lambda r: (0, 0), "same": lambda r: (r // 2, r - r // 2), "wide": lambda r: (r, r)}
        return tuple(map(sides[name], reach))
    if isinstance(padding, Sequence) and any(isinstance(p, Sequence) for p in padding):
        if len(padding) != len(reach) or any(not isinstance(p, Sequence) or len(p) != 2 for p in padding):
            raise ValueError(f"padding: expected a pair (before, after) for each of {len(reach)} axes, got {padding}")
        pairs = [_integers("padding", p, 2) for p in padding]  # type: ignore[arg-type]
    else:
        pairs = [(p, p) for p in _integers("padding", padding, len(reach))]  # type: ignore[arg-type]
    if min(map(min, pairs)) < 0:
        raise ValueError(f"padding: expected numbers of at least 0, got {padding}")
    return tuple((before, after) for before, after in pairs)


def positive(name: str, value: Ints, axes: int) -> tuple[int, ...]:
    """``value`` as one positive integer for each axis."""
    numbers = _integers(name, value, axes)
    if not numbers or min(numbers) < 1:
        raise ValueError(f"{name}: expected positive numbers, got {value}")
    return numbers


def _integers(name: str, value: Ints, axes: int) -> tuple[int, ...]:
    try:
        numbers = tuple(map(operator.index, value if isinstance(value, Sequence) else (value,) * axes))
    except TypeError:
        raise TypeError(f"{name}: expected an integer or a sequence of integers, got {value!r}") from None
    if len(numbers) != axes:
        raise ValueError(f"{name}: expected one number, or one for each of {axes} axes, got {value}")
    return numbers
