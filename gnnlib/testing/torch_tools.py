"""Checks of a layer under PyTorch's tools: ``torch.compile``, ``torch.export``, ``torch.func``, forward derivatives.

Each check of `TOOLS` compares values and gradients under one tool with those of eager mode. They take longer than the
other checks, and are not among `gnnlib.testing.ONCE`.

Example:
    >>> from gnnlib import GCNConv
    >>> from gnnlib.testing import Case
    >>> from gnnlib.testing.torch_tools import batch_equals_loop
    >>> def reference(conv, dense, x_src, x_dst, edge):  # not used by these checks
    ...     raise NotImplementedError
    >>> def isolated(conv, x_dst):
    ...     raise NotImplementedError
    >>> batch_equals_loop(Case("plain", lambda: GCNConv(5, 3), reference, isolated))
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

from gnnlib.graph import prepare
from gnnlib.testing.case import (
    TOLERANCE,
    Case,
    Inputs,
    apply,
    assert_close,
    inputs,
    outputs_and_gradients,
    seed,
)
from gnnlib.testing.graphs import random_graph

EXACT = TOLERANCE[torch.float64]


def _case(case: Case, prepared: bool = False) -> tuple[Any, Inputs]:
    conv, args = case.build(), inputs(case, random_graph())
    return conv, args._replace(graph=prepare(args.graph)) if prepared else args


def compiled_equals_eager(case: Case, backend: str = "aot_eager") -> None:
    """On a prepared graph a layer is compiled as one graph, and its values and gradients are those of eager mode."""
    torch.compiler.reset()
    conv, args = _case(case, prepared=True)
    compiled = torch.compile(conv, backend=backend, fullgraph=True)
    actual = outputs_and_gradients(conv, args, lambda _, args: apply(compiled, args))
    assert_close(actual, outputs_and_gradients(conv, args), 1e-12)


def exported_equals_eager(case: Case) -> None:
    """An exported layer takes a prepared graph as an input, and has the values and gradients of eager mode."""
    conv, args = _case(case, prepared=True)
    program = torch.export.export(conv, args if args.edge is not None else args[:2]).module()
    actual = outputs_and_gradients(program, args)
    expected = outputs_and_gradients(conv, args)
    assert_close({name: actual[name] for name in ("y", "d x")}, {name: expected[name] for name in ("y", "d x")}, EXACT)


def _functions(conv: Any, args: Inputs) -> list[tuple[Callable[[Tensor], Tensor], Tensor]]:
    """The layer as a function of its features, of its edge values and of each parameter."""
    functions: list[tuple[Callable[[Tensor], Tensor], Tensor]] = [
        (lambda x: apply(conv, args._replace(x=x)), args.x),
    ]
    if args.edge is not None:
        functions.append((lambda edge: apply(conv, args._replace(edge=edge)), args.edge))
    arguments = args if args.edge is not None else args[:2]
    for name, parameter in conv.named_parameters():
        functions.append(
            (
                lambda value, name=name: torch.func.functional_call(conv, {name: value}, arguments),  # type: ignore[misc]
                parameter.detach(),
            )
        )
    return functions


def _loss(function: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    return lambda value: (function(value) * 0.7).sin().sum()


def _gradient(loss: Callable[[Tensor], Tensor], value: Tensor) -> Tensor:
    leaf = value.detach().requires_grad_()
    (grad,) = torch.autograd.grad(loss(leaf), leaf, allow_unused=True, materialize_grads=True)
    return grad


def functional_gradient_equals_eager(case: Case) -> None:
    """``torch.func.grad`` is ``torch.autograd.grad``."""
    conv, args = _case(case)
    for function, value in _functions(conv, args):
        expected = _gradient(_loss(function), value)
        assert_close({"grad": torch.func.grad(_loss(function))(value)}, {"grad": expected}, EXACT)


def batch_equals_loop(case: Case) -> None:
    """``torch.func.vmap`` of the layer, and of its gradient, is a loop."""
    conv, args = _case(case)
    for function, value in _functions(conv, args):
        values = torch.stack([value, 2 * value, value / 2])
        for single in (function, torch.func.grad(_loss(function))):
            expected = torch.stack([single(one) for one in values])
            assert_close({"y": torch.func.vmap(single)(values)}, {"y": expected}, 1e-11)


def forward_derivative_equals_jacobian(case: Case) -> None:
    """``torch.func.jvp`` and dual numbers give the product with the Jacobian matrix of the backward pass."""
    conv, args = _case(case)
    for function, value in _functions(conv, args)[: 2 if args.edge is not None else 1]:
        seed(6)
        tangent = torch.randn_like(value)
        jacobian = torch.autograd.functional.jacobian(function, value, vectorize=True)
        expected = (jacobian.flatten(-value.dim()) @ tangent.flatten()).detach()
        assert_close({"jvp": torch.func.jvp(function, (value,), (tangent,))[1]}, {"jvp": expected}, 1e-11)
        with forward_ad.dual_level():
            dual = forward_ad.unpack_dual(function(forward_ad.make_dual(value, tangent))).tangent
        assert dual is not None
        assert_close({"dual": dual}, {"dual": expected}, 1e-11)


def hessian_equals_eager(case: Case) -> None:
    """``torch.func.hessian``, a forward derivative of a gradient, is the second derivative of eager mode."""
    conv, args = _case(case)
    loss = _loss(_functions(conv, args)[0][0])
    expected = torch.autograd.functional.hessian(loss, args.x)
    assert_close({"hessian": torch.func.hessian(loss)(args.x)}, {"hessian": expected}, 1e-10)


def autocast_is_close(case: Case) -> None:
    """Under autocast to bfloat16 and float16, on float32 features and on features of the lower precision."""
    conv, args = case.build(torch.float32), inputs(case, random_graph(), torch.float32)
    expected = outputs_and_gradients(conv, args)["y"]
    for dtype in (torch.bfloat16, torch.float16):
        for x in (args.x, args.x.to(dtype)):

            def under_autocast(conv: Any, args: Inputs, dtype: torch.dtype = dtype) -> Tensor:
                with torch.autocast("cpu", dtype):
                    return apply(conv, args).float()

            actual = outputs_and_gradients(conv, Inputs(args.graph, x, args.edge), under_autocast)
            assert_close({"y": actual["y"]}, {"y": expected}, 0.1)
            assert all(value.isfinite().all() for value in actual.values())


TOOLS: list[Callable[[Case], None]] = [
    compiled_equals_eager,
    exported_equals_eager,
    functional_gradient_equals_eager,
    batch_equals_loop,
    forward_derivative_equals_jacobian,
    hessian_equals_eager,
    autocast_is_close,
]
"""The checks, each of a case with one tensor of features."""
