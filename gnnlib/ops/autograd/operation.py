"""Differentiable operations on an adjacency, each declared once for eager mode, ``torch.func``, compilation and export.

A subclass of `Operation` declares ``forward``, ``fake``, ``backward`` and, where it is linear, ``linear``. From it come

- a ``torch.autograd.Function`` with ``setup_context``, ``vmap`` and ``jvp``. In eager mode it is called past
  ``Function.apply``, whose inspection of the signature takes longer than the sum over a small graph
- an operator ``torch.ops.gnnlib.*`` on the tensors of the adjacency, with a meta kernel and a backward formula. It is
  called while ``torch.compile`` or ``torch.export`` traces. In eager mode it would take longer than the Function.

An `Operator` is the same without a derivative: the kernel of a first derivative. A fused operation also declares its
``composition`` of differentiable operations, for second derivatives, batches (``vmap``) and forward derivatives.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch._C._functorch import TransformType, get_interpreter_stack, is_legacy_batchedtensor, unwrap_if_dead
from torch._functorch.utils import unwrap_dead_wrappers
from torch.autograd import Function, forward_ad

from gnnlib.graph import CompressedRows
from gnnlib.graph._adjacency import transforms_active
from gnnlib.graph._prepare import adjacency_of_tensors, run_eagerly, tensors_of_adjacency

try:
    from torch._C._dynamo.eval_frame import get_eval_frame_callback
except ImportError:  # PyTorch 2.4 and 2.5, where layers between the graphs of a compiled function are traced

    def get_eval_frame_callback() -> Any:
        return None


TENSORS = ("src", "dst", *(f"{rows}_{name}" for rows in ("csc", "csr") for name in CompressedRows._fields))
"""The arguments of an operator for an adjacency."""

_in_operator_backward = False


def uses_operators() -> bool:
    """Whether operations are calls of operators: in a traced function, and in the backward pass of an operator."""
    return torch.compiler.is_compiling() or _in_operator_backward


def is_composed() -> bool:
    """Whether a gradient must be a composition of differentiable operations: it is differentiated again, or batched."""
    if torch.compiler.is_compiling():  # the backward pass of a compiled function, which has no second derivatives
        return False
    return torch.is_grad_enabled() or transforms_active()


class Operator:
    """A function of tensors and an adjacency, without a derivative.

    Attributes:
        schema: the arguments and results of the operator, in PyTorch's language of schemas. ``adj`` is the adjacency,
            tensors are before it, and numbers after it
        num_inputs: number of the tensors
        num_arguments: of the operator, the adjacency counted as one; the kernel may take more
    """

    schema: ClassVar[str]
    num_inputs: ClassVar[int]
    num_arguments: ClassVar[int]
    operator: ClassVar[Any] = None

    forward: ClassVar[Callable[..., Any]]
    """The kernel: one tensor or a tuple."""

    fake: ClassVar[Callable[..., Any]]
    """Empty tensors of the shapes and types of the results of the operator."""

    def __init_subclass__(cls) -> None:
        if "schema" in vars(cls):
            cls.num_inputs = cls.schema.split("adj")[0].count(",")
            cls.num_arguments = cls.schema.split("->")[0].count(",") + 1
            cls.operator = _register(cls)

    @classmethod
    def apply(cls, *args: Any) -> Any:
        """Call the operator or the kernel."""
        if uses_operators():
            return cls._call_operator(args)
        return cls.forward(*args) if get_eval_frame_callback() is None else run_eagerly(cls.forward, *args)

    @classmethod
    def _call_operator(cls, args: tuple[Any, ...]) -> Any:
        if cls.operator is None:
            raise RuntimeError(f"{cls.__name__}: expected no message dropout in a batch of gradients")
        adj = args[cls.num_inputs]
        return cls.operator(
            *args[: cls.num_inputs], *tensors_of_adjacency(adj), *args[cls.num_inputs + 1 : cls.num_arguments]
        )

    @classmethod
    def _grouped(cls, args: Sequence[Any]) -> tuple[Any, ...]:
        """The arguments of ``forward`` from those of the operator."""
        end = cls.num_inputs + len(TENSORS)
        return *args[: cls.num_inputs], adjacency_of_tensors(*args[cls.num_inputs : end]), *args[end:]

    @classmethod
    def _kernel(cls, *args: Any) -> Any:
        """The kernel of the operator: the results that the schema has, contiguous as their fakes."""
        args = tuple(a.contiguous() if isinstance(a, Tensor) else a for a in args)
        results = cls.forward(*cls._grouped(args))
        single = cls.operator._opoverload._schema.returns
        results = results if isinstance(results, tuple) else (results,)
        results = tuple(t.contiguous() for t in results[: len(single)])
        return results if len(results) > 1 else results[0]

    @classmethod
    def _meta(cls, *args: Any) -> Any:
        return cls.fake(*cls._grouped(args))


def _register(cls: type[Operator]) -> Any:
    arguments, results = cls.schema.split(" -> ")
    arguments = re.sub(r"\badj\b", ", ".join(f"Tensor {name}" for name in TENSORS), arguments)
    name = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", cls.__name__).lower()
    schema = f"({arguments}) -> {results}"
    operator = torch.library.custom_op(f"gnnlib::{name}", cls._kernel, mutates_args=(), schema=schema)
    operator.register_fake(cls._meta)
    if issubclass(cls, Operation):
        operator.register_autograd(cls._operator_backward, setup_context=cls._setup_operator)
    return operator


class _Record:
    """The context of a backward pass in place of that of a Function, with what `Operation` asks of one."""

    adj: Any
    saved_tensors: Any
    needs_input_grad: Sequence[bool]

    def save_for_backward(self, *tensors: Tensor | None) -> None:
        self.saved_tensors = tensors

    def mark_non_differentiable(self, *tensors: Tensor) -> None:
        pass

    def set_materialize_grads(self, value: bool) -> None:
        pass


class Operation(Operator):
    """A differentiable function of tensors and an adjacency.

    Attributes:
        num_outputs: number of the results with a gradient. Further ones are saved for the backward pass
        linear: the places of the tensors in which it is linear, if these are all that have a gradient
        composition: the same function as a composition of differentiable operations, for one that is fused
    """

    num_outputs: ClassVar[int] = 1
    linear: ClassVar[tuple[int, ...]] = ()
    composition: ClassVar[Callable[..., Any] | None] = None
    function: ClassVar[type[Function]]
    _apply: ClassVar[Callable[..., Any]]

    backward: ClassVar[Callable[..., tuple[Tensor | None, ...]]]
    """``backward(ctx, *grads)``: the gradients of the tensors. The context has ``adj``, ``constants``,
    ``saved_tensors`` and ``needs_input_grad``."""

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        names = ("forward", "setup_context", "vmap", "jvp")
        members = {name: staticmethod(getattr(cls, name)) for name in names}
        cls.function = type(cls.__name__, (Function,), {**members, "backward": staticmethod(cls._backward)})
        cls._apply = super(Function, cls.function).apply  # type: ignore[misc]

    @classmethod
    def apply(cls, *args: Any) -> Any:
        """The results with a gradient."""
        if uses_operators():
            _check_traced(cls)
            results = cls._call_operator(args)
        elif get_eval_frame_callback() is not None:  # between the graphs of a compiled function
            return run_eagerly(cls.apply, *args)
        elif transforms_active():
            if cls.composition is not None and _is_batched_or_forward():
                return cls.composition(*args)
            results = cls.function.apply(*args)
        elif forward_ad._current_level >= 0 and cls.composition is not None:
            return cls.composition(*args)
        elif not torch.is_grad_enabled():  # as in a first backward pass: nothing to record
            results = cls.forward(*cls._unwrapped(args))
        else:
            results = cls._apply(*cls._unwrapped(args))
        if isinstance(results, Tensor):
            return results
        return results[0] if cls.num_outputs == 1 else results[: cls.num_outputs]

    @classmethod
    def _unwrapped(cls, args: tuple[Any, ...]) -> tuple[Any, ...]:
        """Tensors of a transform that has ended are replaced by their values."""
        tensors = [t if t is None else unwrap_if_dead(t) for t in args[: cls.num_inputs]]
        return *tensors, *args[cls.num_inputs :]

    @classmethod
    def saved(cls, needs: Sequence[bool], inputs: tuple[Any, ...], outputs: tuple[Tensor, ...]) -> tuple[Any, ...]:
        """What the backward pass needs: by default the inputs, and the outputs without a gradient."""
        return *inputs, *outputs[cls.num_outputs :]

    @classmethod
    def setup_context(cls, ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        """As of a ``torch.autograd.Function``."""
        num = cls.num_inputs
        ctx.adj, ctx.constants = inputs[num], inputs[num + 1 :]
        outputs = output if isinstance(output, tuple) else (output,)
        if len(outputs) > cls.num_outputs:
            ctx.mark_non_differentiable(*outputs[cls.num_outputs :])
            ctx.set_materialize_grads(False)
        ctx.save_for_backward(*cls.saved(ctx.needs_input_grad, inputs[:num], outputs))
        if cls.composition is None and (transforms_active() or forward_ad._current_level >= 0):
            ctx.save_for_forward(*inputs[:num], *outputs)

    @classmethod
    def _backward(cls, ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        """The backward pass of the Function."""
        grads, rest = grads[: cls.num_outputs], (None,) * (1 + len(ctx.constants))
        first = grads[0] if grads[0] is not None else grads[-1]
        if first is None:
            return (None,) * cls.num_inputs + rest
        if transforms_active():  # some may be of a transform that has ended
            record = _Record()
            vars(record).update(vars(ctx))
            record.saved_tensors = unwrap_dead_wrappers(ctx.saved_tensors)
            record.needs_input_grad = ctx.needs_input_grad
            return *cls.backward(record, *unwrap_dead_wrappers(grads)), *rest
        if is_legacy_batchedtensor(first):  # of torch.autograd.grad(is_grads_batched=True): PyTorch batches operators
            with _operators():
                return *cls.backward(ctx, *grads), *rest
        return *cls.backward(ctx, *grads), *rest

    @classmethod
    def jvp(cls, ctx: Any, *tangents: Tensor | None) -> Any:
        """The sum of the operation with one of the tensors replaced by its tangent, for each of them."""
        inputs, total = ctx.saved_tensors[: cls.num_inputs], None
        for i in cls.linear:
            tangent = tangents[i]
            if tangent is not None:
                term = cls.apply(*inputs[:i], tangent.contiguous(), *inputs[i + 1 :], ctx.adj, *ctx.constants)
                total = term if total is None else total + term
        return total

    @classmethod
    def vmap(cls, info: Any, in_dims: tuple[Any, ...], *args: Any) -> tuple[Any, Any]:
        """One call for each member of the batch."""
        calls = [
            cls.function.apply(*(a if dim is None else a.select(dim, i).contiguous() for a, dim in zip(args, in_dims)))
            for i in range(info.batch_size)
        ]
        if isinstance(calls[0], Tensor):
            return torch.stack(calls), 0
        return tuple(map(torch.stack, zip(*calls))), tuple(0 for _ in calls[0])

    @classmethod
    def _setup_operator(cls, ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        record = _Record()
        record.needs_input_grad = ctx.needs_input_grad
        cls.setup_context(record, cls._grouped(inputs), output)
        ctx.save_for_backward(*record.saved_tensors, *tensors_of_adjacency(record.adj))
        record.saved_tensors = record.adj = None
        ctx.record, ctx.num_arguments = record, len(inputs)

    @classmethod
    def _operator_backward(cls, ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        record, saved = _Record(), ctx.saved_tensors
        vars(record).update(vars(ctx.record))
        record.saved_tensors, record.adj = saved[: -len(TENSORS)], adjacency_of_tensors(*saved[-len(TENSORS) :])
        with _operators():
            result = cls.backward(record, *grads[: cls.num_outputs])
        return *result, *(None for _ in range(ctx.num_arguments - cls.num_inputs))


@contextmanager
def _operators() -> Iterator[None]:
    """Operations are operators: the backward pass of an operator is traced, or of an exported program."""
    global _in_operator_backward
    before, _in_operator_backward = _in_operator_backward, True
    try:
        yield
    finally:
        _in_operator_backward = before


def _check_traced(cls: type[Operation]) -> None:
    """Operators have no derivatives of ``torch.func``: these would be zero, without an error."""
    if transforms_active() or forward_ad._current_level >= 0:
        raise RuntimeError(
            f"{cls.__name__}: expected torch.func and forward-mode derivatives outside of torch.compile, got them in a "
            "compiled function"
        )


def _is_batched_or_forward() -> bool:
    """Whether a transform of ``torch.func`` other than a gradient is active."""
    return forward_ad._current_level >= 0 or any(
        transform.key() != TransformType.Grad for transform in get_interpreter_stack() or ()
    )


def recompose(function: Callable[..., Tensor], inputs: Sequence[Tensor | None], grad: Tensor, ctx: Any) -> tuple:
    """The gradients of ``function``, a composition of differentiable operations, for a backward pass with a graph."""
    needed = [i for i in range(len(inputs)) if ctx.needs_input_grad[i]]
    grads: list[Tensor | None] = [None] * len(inputs)
    differentiate = _transformed_grads if transforms_active() else _grads
    for i, g in zip(needed, differentiate(function, inputs, needed, grad), strict=True):
        grads[i] = g
    return tuple(grads)


def _grads(
    function: Callable[..., Tensor], inputs: Sequence[Tensor | None], needed: list[int], grad: Tensor
) -> tuple[Tensor | None, ...]:
    create_graph = torch.is_grad_enabled()
    with torch.enable_grad():
        # new leaves without an outer graph; the inputs themselves with one
        leaves = [t if create_graph or t is None else t.detach().requires_grad_(t.requires_grad) for t in inputs]
        y = function(*leaves)
    parts = [leaves[i] for i in needed]
    return torch.autograd.grad(y, parts, grad, create_graph=create_graph, allow_unused=True)  # type: ignore[arg-type]


def _transformed_grads(
    function: Callable[..., Tensor], inputs: Sequence[Tensor | None], needed: list[int], grad: Tensor
) -> tuple[Tensor | None, ...]:
    """The same under a transform of ``torch.func``."""

    def of_needed(*values: Tensor) -> Tensor:
        arguments = list(inputs)
        for i, value in zip(needed, values, strict=True):
            arguments[i] = value
        return function(*arguments)

    return torch.func.vjp(of_needed, *(inputs[i] for i in needed))[1](grad)
