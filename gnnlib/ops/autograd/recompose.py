"""First derivatives that can be differentiated again."""

from collections.abc import Callable

import torch
from torch import Tensor


def recompose(function: Callable[..., Tensor], inputs: tuple, grad: Tensor, ctx) -> tuple:
    """The gradients of ``function``, a composition of differentiable operations, for a backward pass with a graph."""
    create_graph = torch.is_grad_enabled()
    needed = [i for i in range(len(inputs)) if ctx.needs_input_grad[i]]
    with torch.enable_grad():
        # new leaves without an outer graph; the inputs themselves with one
        leaves = [t if create_graph or t is None else t.detach().requires_grad_(t.requires_grad) for t in inputs]
        y = function(*leaves)
    results = torch.autograd.grad(y, [leaves[i] for i in needed], grad, create_graph=create_graph, allow_unused=True)
    grads: list = [None] * len(inputs)
    for i, g in zip(needed, results, strict=True):
        grads[i] = g
    return tuple(grads)
