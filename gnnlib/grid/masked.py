"""Networks on grids from which pixels were removed: the nodes of a traced network, evaluated with masks.

A removed pixel sends no message, and no statistic counts it. The outputs of a convolution or pooling that has as many
outputs as inputs along every axis remain where its inputs do, as in submanifold sparse convolution (Graham and van der
Maaten, 2017, arXiv 1706.01307); those of any other remain where a pixel of their window does.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import inf
from typing import Any, TypeAlias, cast

import torch
from torch import Tensor, fx, nn
from torch.fx.node import map_aggregate

from gnnlib.grid.dense import to_images, to_nodes
from gnnlib.grid.pool import GridPool
from gnnlib.grid.tracing import EVALUATE, Program, caller
from gnnlib.ops import aggregate

__all__ = ["Masked", "run"]


@dataclass(frozen=True)
class Masked:
    """A tensor of which some entries are absent; their values mean nothing.

    Args:
        values: any shape
        mask: booleans, broadcastable to ``values``; True: present

    Example:
        >>> import torch
        >>> from gnnlib.grid.masked import Masked
        >>> Masked(torch.ones(2, 2), torch.tensor([[True], [False]])).fill(7.0).tolist()
        [[1.0, 1.0], [7.0, 7.0]]
    """

    values: Tensor
    mask: Tensor

    def fill(self, number: float) -> Tensor:
        """The values, with a number where they are absent."""
        return torch.where(self.mask, self.values, number)

    def full_mask(self) -> Tensor:
        """The mask in the shape of the values."""
        return self.mask.expand(self.values.shape).contiguous()


def run(program: Program, root: nn.Module, images: Masked, dense: bool) -> Any:
    """As :meth:`Program.run`; absent entries of the outputs are 0."""
    values: dict[fx.Node, Any] = dict(zip(program.inputs, (images, dense)))
    for node in program.nodes:
        args = fx.map_arg(node.args, values.__getitem__)
        kwargs = fx.map_arg(node.kwargs, values.__getitem__)
        values[node] = _evaluate(root, node, args, kwargs)
        for value in program.unused[node]:
            del values[value]
    outputs = fx.map_arg(program.output, values.__getitem__)
    return _replace(outputs, lambda operand: operand.fill(0.0))


@dataclass(frozen=True)
class _Operation:
    """A function, method or module of a traced network on plain values."""

    root: nn.Module
    node: fx.Node

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return EVALUATE[self.node.op](self.root, self.node.target, args, kwargs)

    @property
    def module(self) -> nn.Module | None:
        return self.root.get_submodule(str(self.node.target)) if self.node.op == "call_module" else None

    @property
    def name(self) -> str:
        """That of a function, also where a module or method calls it."""
        if self.module is not None:
            kind = type(self.module)
            return MODULES.get(kind.__name__) or MODULES.get(kind.__module__.rpartition(".")[2], kind.__name__)
        target = self.node.target
        return (target if isinstance(target, str) else target.__name__).rstrip("_")

    def error(self, expected: str) -> ValueError:
        path = caller(self.node)[0] or "from_torch"
        return ValueError(f"{path}: expected {expected} on a grid from which pixels were removed, got {self.name}")


Rule: TypeAlias = Callable[[_Operation, Any, Any], Any]


def _evaluate(root: nn.Module, node: fx.Node, args: Any, kwargs: Any) -> Any:
    operation = _Operation(root, node)
    if not _operands((args, kwargs)):
        return operation(*args, **kwargs)
    if hasattr(node.target, "step"):
        return _window(cast(Any, node.target), *args, **kwargs)
    return RULES.get(operation.name, _elementwise)(operation, args, kwargs)


def _operands(arguments: Any) -> list[Masked]:
    operands: list[Masked] = []
    _replace(arguments, operands.append)
    return operands


def _replace(arguments: Any, function: Callable[[Masked], Any]) -> Any:
    """The arguments of a node, with another value for each masked one."""
    return map_aggregate(arguments, lambda value: function(value) if isinstance(value, Masked) else value)


def _call(operation: _Operation, args: Any, kwargs: Any, function: Callable[[Masked], Any]) -> Any:
    args, kwargs = _replace((args, kwargs), function)
    return operation(*args, **kwargs)


def _window(function: Callable[..., Any], input: Masked, *args: Any, dense: bool, **options: Any) -> Masked:
    """A convolution or pooling."""
    step = function.step(input.values, *args, **options)  # type: ignore[attr-defined]
    pool = step.layer if isinstance(step.layer, GridPool) else None
    largest = pool is not None and pool.reduce == "max"
    y = function(input.fill(-inf if largest else 0.0), *args, dense=dense, **options)
    mask, lattice = input.full_mask().any(1, keepdim=True), step.lattice()
    counts = to_images(aggregate(lattice, to_nodes(mask.float())), step.size)
    degrees = lattice.in_degrees().to(counts).view(step.size)
    reached = (counts > 0) | (degrees == 0)
    if pool is not None and not largest:
        area = lattice.dstdata["area"].to(counts).view(step.size) if pool.count_include_pad else degrees
        y = y * (area / (area - degrees + counts).clamp(min=1)).to(y.dtype)
    if tuple(step.size) != tuple(input.values.shape[2:]):
        mask = reached
    elif pool is not None:
        mask = mask & reached
    return Masked(y.masked_fill(~mask, 0.0), mask)


def _elementwise(operation: _Operation, args: Any, kwargs: Any) -> Masked:
    """Present where one operand is; another that is absent there counts as 0. Operands that are broadcast, such as
    one number per channel, do not matter."""
    operands = _operands((args, kwargs))
    shape = torch.broadcast_shapes(*(operand.values.shape for operand in operands))
    masks = [operand.mask for operand in operands if operand.values.shape == shape] or [o.mask for o in operands]
    mask, *remaining = masks
    differ = not all(one is mask or torch.equal(*torch.broadcast_tensors(one, mask)) for one in remaining)
    y = _call(operation, args, kwargs, lambda operand: operand.fill(0.0) if differ else operand.values)
    for other in remaining if differ else ():
        mask = mask | other
    if not isinstance(y, Tensor) or not _fits(mask, y):
        raise operation.error("one output per input")
    return Masked(y, mask)


def _fits(mask: Tensor, values: Tensor) -> bool:
    """Whether the mask is broadcastable to the values."""
    sizes = zip(reversed(mask.shape), reversed(values.shape))
    return mask.dim() <= values.dim() and all(size in (1, length) for size, length in sizes)


def _of_values(operation: _Operation, args: Any, kwargs: Any) -> Any:
    """Shapes and types."""
    return _call(operation, args, kwargs, lambda operand: operand.values)


def _rearranged(operation: _Operation, args: Any, kwargs: Any) -> Any:
    """An operation that moves entries moves those of the mask likewise."""

    def mask(value: Any) -> Any:
        if isinstance(value, Masked):
            return value.full_mask()
        return torch.ones_like(value, dtype=torch.bool) if isinstance(value, Tensor) else value

    masks, options = map_aggregate((args, kwargs), mask)
    return _pack(_of_values(operation, args, kwargs), operation(*masks, **options))


def _pack(values: Any, mask: Any) -> Any:
    """The results of an operation on values and on masks, which may be tuples."""
    return tuple(map(_pack, values, mask)) if isinstance(values, (tuple, list)) else Masked(values, mask)


def _attribute(operation: _Operation, args: Any, kwargs: Any) -> Any:
    return (_rearranged if args[1] in ("T", "mT") else _of_values)(operation, args, kwargs)


def _along_axis(number: float) -> Rule:
    """An operation along an axis, in which this number has no effect."""

    def rule(operation: _Operation, args: Any, kwargs: Any) -> Masked:
        (x,) = _operands((args, kwargs))
        lowest = torch.finfo(x.values.dtype).min
        return Masked(_call(operation, args, kwargs, lambda operand: operand.fill(max(number, lowest))), x.mask)

    return rule


def _linear(operation: _Operation, args: Any, kwargs: Any) -> Masked:
    """Absent inputs are 0; an output is present where an input is."""
    x = _operands((args, kwargs))[0]
    y = _call(operation, args, kwargs, lambda operand: operand.fill(0.0))
    return Masked(y, x.full_mask().any(-1, keepdim=True))


def _reduced(number: float, sign: int = 1) -> Rule:
    """A reduction over axes, in which this number has no effect."""

    def rule(operation: _Operation, args: Any, kwargs: Any) -> Masked:
        y = _call(operation, args, kwargs, lambda operand: operand.fill(number))
        present = _call(operation, args, kwargs, lambda operand: sign * operand.full_mask().float()) != 0
        return Masked(y.masked_fill(~present, 0.0), present)

    return rule


def _mean(operation: _Operation, args: Any, kwargs: Any) -> Masked:
    y = _call(operation, args, kwargs, lambda operand: operand.fill(0.0))
    share = _call(operation, args, kwargs, lambda operand: operand.full_mask().to(operand.values.dtype))
    return Masked(y / share.masked_fill(share == 0, 1.0), share > 0)


def _normalised(by_image: bool) -> Rule:
    """Statistics of the pixels that are present, of all images or of each."""

    def rule(operation: _Operation, args: Any, kwargs: Any) -> Any:
        x = _operands((args, kwargs))[0]
        if x.values.dim() < 3:  # flat images, whose absent entries are 0
            return _call(operation, args, kwargs, lambda operand: operand.fill(0.0))
        if by_image and operation.module is not None and _updates_statistics(operation.module):
            raise operation.error("statistics without running means")
        mask = x.full_mask().any(1)  # (B, *size)
        axes = mask.dim() - 1

        def normalise(rows: Tensor) -> Tensor:
            images = rows.T.reshape(1, rows.shape[1], len(rows), *[1] * (axes - 1))
            return _call(operation, args, kwargs, lambda operand: images).view(rows.shape[1], len(rows)).T

        rows = x.fill(0.0).movedim(1, -1)[mask]
        groups = rows.split(mask.flatten(1).sum(1).tolist()) if by_image else [rows]
        rows = torch.cat([normalise(group) if len(group) else group for group in groups])
        images = rows.new_zeros(*mask.shape, rows.shape[1]).index_put((mask,), rows)
        return Masked(images.movedim(-1, 1).contiguous(), mask.unsqueeze(1))

    return rule


def _updates_statistics(module: nn.Module) -> bool:
    return module.training and bool(getattr(module, "track_running_stats", False))


def _of_last_axes(operation: _Operation, args: Any, kwargs: Any) -> Masked:
    """Layer normalisation, of rows that are present or absent as a whole."""
    (x,) = _operands((args, kwargs))
    shape: Any = operation.module.normalized_shape if operation.module is not None else [*args[1:], *kwargs.values()][0]
    rows = x.full_mask().flatten(-len(shape))
    if not torch.equal(rows.any(-1), rows.all(-1)):
        raise operation.error("normalisation over channels")
    return Masked(_of_values(operation, args, kwargs), x.mask)


def _refused(operation: _Operation, args: Any, kwargs: Any) -> Any:
    raise operation.error("convolutions, pooling, norms, activations and elementwise functions")


MODULES = {
    "batchnorm": "batch_norm",
    "flatten": "flatten",
    "instancenorm": "instance_norm",
    "GroupNorm": "group_norm",
    "LayerNorm": "layer_norm",
    "LogSoftmax": "log_softmax",
    "RMSNorm": "rms_norm",
    "Softmax": "softmax",
}
"""Modules, or files of torch.nn, and the functions whose rules apply to them."""

REARRANGED = (
    *("cat", "chunk", "concat", "expand", "expand_as", "flatten", "getitem", "movedim", "permute", "reshape", "split"),
    *("squeeze", "stack", "transpose", "unflatten", "unsqueeze", "view"),
)

RULES: dict[str, Rule] = {
    **dict.fromkeys(("dim", "new_ones", "new_zeros", "numel", "ones_like", "size", "zeros_like"), _of_values),
    **dict.fromkeys(REARRANGED, _rearranged),
    **dict.fromkeys(("softmax", "log_softmax"), _along_axis(-inf)),
    **dict.fromkeys(("layer_norm", "rms_norm"), _of_last_axes),
    **dict.fromkeys(("instance_norm", "group_norm"), _normalised(by_image=True)),
    **dict.fromkeys(("masked_scatter", "Softmin"), _refused),
    "batch_norm": _normalised(by_image=False),
    "linear": _linear,
    "normalize": _along_axis(0.0),
    "sum": _reduced(0.0),
    "amax": _reduced(-inf),
    "amin": _reduced(inf, sign=-1),
    "mean": _mean,
    "getattr": _attribute,
}
"""Operations that are not elementwise."""
