"""Attribution: gradient saliency of nodes (Simonyan et al. 2014, arXiv 1312.6034; Shrikumar et al. 2016, arXiv
1605.01713), and the attention coefficients of GAT layers.

Models are called as they are: set one with dropout or batch normalisation to evaluation mode first.
"""

from collections.abc import Callable
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from gnnlib._utils.calls import names_checked
from gnnlib.graph import GraphLike, takes_graph
from gnnlib.nn.conv import GATConv, GATv2Conv

__all__ = ["attention", "saliency"]

Model: TypeAlias = Callable[..., Tensor]


@names_checked()
@takes_graph()
def saliency(model: Model, graph: GraphLike, x: Tensor, target: Tensor, *, edge: Tensor | None = None) -> Tensor:
    r"""Saliency of nodes for a class: the gradient of its score (Simonyan et al. 2014, arXiv 1312.6034, section 3)
    times the input (Shrikumar et al. 2016, arXiv 1605.01713, section 2).

    .. math:: s_v = \Big| \sum_f x_{vf} \frac{\partial S_c}{\partial x_{vf}} \Big|

    To first order, this is the change of the score if the features of v become 0.

    Differs from the papers: the products are summed over the features of a node, with their signs (Simonyan et al. take
    the largest gradient of an image's channels). A node with zero features has saliency 0.

    Args:
        model: called as ``model(graph, x)``, or ``model(graph, x, edge)`` with ``edge``; returns scores before the
            softmax
        graph: a batch of graphs that the model does not mix, or one graph with several signals
        x: features
        target: the class c of each graph or signal
        edge: edge weights or features

    Shapes:
        - x: (N, F) for a batch of B graphs, or (n, B, F) for B signals
        - target: (B,)
        - scores: (B, C)
        - output: (N,) or (n, B), without gradients

    Returns:
        the saliency of each node

    Raises:
        ValueError: for scores of another shape, or classes out of range

    Example:
        >>> import torch
        >>> from gnnlib import aggregate, readout_sum
        >>> from gnnlib.analysis import saliency
        >>> import dgl
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


@names_checked()
@torch.no_grad()
@takes_graph()
def attention(model: nn.Module, graph: GraphLike, x: Tensor, *, edge: Tensor | None = None) -> list[Tensor]:
    """The attention coefficients of every `GATConv` and `GATv2Conv` of a model, in the order in which the layers run.

    Args:
        model: called as ``model(graph, x)``, or ``model(graph, x, edge)`` with ``edge``
        graph: of the model
        x: features
        edge: edge weights or features

    Returns:
        for each layer (E, \\*, H), with the E edges of its graph; an empty list for a model without attention

    Example:
        >>> import torch
        >>> from gnnlib import GATConv, Stack
        >>> from gnnlib.analysis import attention
        >>> import dgl
        >>> model = Stack.build(lambda i, o: GATConv(i, o // 2, 2), 3, 8, 4, num_layers=2)
        >>> first, last = attention(model, dgl.graph(([0, 1, 2], [2, 2, 0])), torch.ones(3, 3))
        >>> first.shape, round(last[:2].sum().item(), 3)
        (torch.Size([3, 2]), 2.0)
    """
    coefficients: list[Tensor] = []

    def record(layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], _: Any) -> None:
        coefficients.append(layer.forward(*args, **kwargs | {"get_attention": True})[1])

    layers = [layer for layer in model.modules() if isinstance(layer, (GATConv, GATv2Conv))]
    handles = [layer.register_forward_hook(record, with_kwargs=True) for layer in layers]
    try:
        _ = model(graph, x) if edge is None else model(graph, x, edge)
    finally:
        for handle in handles:
            handle.remove()
    return coefficients
