"""What a trained model looks at: how much each node counts for an answer, and where attention goes.

Models are called as they are: put one with dropout or batch normalisation into evaluation mode first.
"""

from collections.abc import Callable
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from gnnlib._platform.dgl import dgl
from gnnlib.nn.conv import GATConv, GATv2Conv

__all__ = ["attention", "saliency"]

Model: TypeAlias = Callable[..., Tensor]


def saliency(model: Model, graph: dgl.DGLGraph, x: Tensor, target: Tensor, edge: Tensor | None = None) -> Tensor:
    r"""How much each node counts for a class: the gradient of its score (Simonyan et al. 2014, arXiv 1312.6034,
    section 3) times the input (Shrikumar et al. 2016, arXiv 1605.01713, section 2),

    .. math:: s_v = \Big| \sum_f x_{vf} \frac{\partial S_c}{\partial x_{vf}} \Big|

    to first order how far the score moves when the features of v are taken to 0.

    Args:
        model: called as ``model(graph, x)``, or with the edges as a third argument where they are given
        graph: a batch, whose graphs the model does not mix; or one graph under several signals x (n, B, F)
        target: the class c of each graph or signal

    Shapes: x (N, F) or (n, B, F), target (B,); the model returns scores (B, C), before any softmax; returns (N,) or
    (n, B), without gradients.

    Raises: ValueError for outputs of another shape, or classes that are none of the C.

    Differs from the papers: features of a node are summed, with their signs (Simonyan et al. take the largest
    gradient of an image's channels). A node whose features are 0 counts for nothing.

    >>> from gnnlib import aggregate, readout_sum
    >>> def model(graph, x):
    ...     return readout_sum(graph, aggregate(graph, x) * torch.tensor([2.0, -1.0]))
    >>> graph = dgl.graph(([0, 1], [1, 2]))
    >>> saliency(model, graph, torch.tensor([[1.0], [-3.0], [5.0]]), torch.tensor([0])).tolist()
    [2.0, 6.0, 0.0]
    """
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        scores = model(graph, x) if edge is None else model(graph, x, edge)
        if scores.dim() != 2 or target.shape != scores.shape[:1]:
            raise ValueError(
                f"expected scores (B, C) and classes (B,), got {tuple(scores.shape)} and {tuple(target.shape)}"
            )
        if len(target) and not 0 <= int(target.min()) <= int(target.max()) < scores.shape[1]:
            raise ValueError(f"target: expected classes from 0 to {scores.shape[1] - 1}, got {target.tolist()[:10]}")
        total = scores.gather(1, target.unsqueeze(1)).sum()
        (gradient,) = torch.autograd.grad(total, x, materialize_grads=True)
    return (gradient * x.detach()).sum(-1).abs()


@torch.no_grad()
def attention(model: nn.Module, graph: dgl.DGLGraph, x: Tensor, edge: Tensor | None = None) -> list[Tensor]:
    """What multiplies each message in every `GATConv` and `GATv2Conv` of a model, in the order in which they run.

    Args: as for :func:`saliency`.

    Shapes: each (E, \\*, H), E the edges that the layer was called with; an empty list for a model without attention.

    >>> from gnnlib import Stack
    >>> model = Stack.build(lambda i, o: GATConv(i, o // 2, 2), 3, 8, 4, num_layers=2)
    >>> first, last = attention(model, dgl.graph(([0, 1, 2], [2, 2, 0])), torch.ones(3, 3))
    >>> first.shape, round(last[:2].sum().item(), 3)
    (torch.Size([3, 2]), 2.0)
    """
    found: list[Tensor] = []

    def look(layer: nn.Module, given: tuple[Any, ...], named: dict[str, Any], _: Any) -> None:
        found.append(layer.forward(*given, **named | {"get_attention": True})[1])

    layers = [layer for layer in model.modules() if isinstance(layer, (GATConv, GATv2Conv))]
    handles = [layer.register_forward_hook(look, with_kwargs=True) for layer in layers]
    try:
        _ = model(graph, x) if edge is None else model(graph, x, edge)
    finally:
        for handle in handles:
            handle.remove()
    return found
