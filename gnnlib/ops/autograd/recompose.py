"""A first derivative that is differentiated again."""

from collections.abc import Callable

import torch
from torch import Tensor


def recompose(function: Callable[..., Tensor], inputs: tuple, grad: Tensor, ctx) -> tuple:
    """Gradients through differentiable pieces, for the backward pass that is itself differentiated."""
    create_graph = torch.is_grad_enabled()
    wanted = [i for i in range(len(inputs)) if ctx.needs_input_grad[i]]
    with torch.enable_grad():
        # fresh leaves where the outer graph is not wanted; the inputs themselves where it is
        used = [t if create_graph or t is None else t.detach().requires_grad_(t.requires_grad) for t in inputs]
        y = function(*used)
    found = torch.autograd.grad(y, [used[i] for i in wanted], grad, create_graph=create_graph, allow_unused=True)
    grads: list = [None] * len(inputs)
    for i, g in zip(wanted, found, strict=True):
        grads[i] = g
    return tuple(grads)
