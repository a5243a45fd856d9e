"""Where weights start, so that features and gradients keep their variance however deep a net is."""

from typing import Any

import torch
from torch import Tensor, nn

from gnnlib._platform.dgl import dgl
from gnnlib._utils.untouched import preserve_state
from gnnlib.nn.stack import GNNLayer

__all__ = ["SkipInit", "lsuv_init_"]


class SkipInit(nn.Module):
    r"""SkipInit (De and Smith 2020, arXiv 2002.10444): one learned factor, 0 at the start.

    .. math:: y = \alpha\, x

    The ``norm`` of a `GNNLayer` with a `Residual`, in the place of a normalisation: x + alpha f(x). Every block starts
    as the identity, whatever its layer is, so at any depth features and gradients start as they come in; but for what
    the activation after the sum takes away: a ReLU the signs, once.

    Args:
        feats: accepted for uniformity

    >>> from gnnlib import GCNConv, Residual
    >>> g, x = dgl.graph(([0, 1], [1, 0])), torch.rand(2, 3)
    >>> bool((GNNLayer(GCNConv(3, 3), SkipInit(3), Residual(3, 3), nn.ReLU())(g, x) == x).all())
    True
    """

    def __init__(self, feats: int | None = None):
        super().__init__()
        self.scale = nn.Parameter(torch.zeros(()))

    def forward(self, graph: dgl.DGLGraph, x: Tensor) -> Tensor:
        return self.scale * x


def lsuv_init_(model: nn.Module, *inputs: Any, tolerance: float = 0.05, tries: int = 10) -> None:
    r"""Layer-sequential unit variance (LSUV: Mishkin and Matas 2016, arXiv 1511.06422, algorithm 1): scales the weights
    of each layer until its output on these inputs has variance 1.

    .. math:: W \leftarrow W \big/ \sqrt{\mathrm{Var}(y)}

    The layers are the convolutions of all blocks of ``model``, in the order in which they run; a layer with n
    matrices takes the n-th root of the factor for each, and tries again. One without matrices stays as it is. With ReLU
    gradients are held too, within a factor of 1000 over 64 layers of any kind. For plain nets: a sum of residuals grows
    with depth still, and wants a norm or `SkipInit`. Neighbours become alike as before: that is not a matter of scale.

    Args:
        model: a `Stack`, or any module with `GNNLayer` inside
        inputs: what ``model`` is called on, such as ``graph, x``
        tolerance: of the variance
        tries: at most, for each layer

    Differs from the paper: weights keep the directions they have, and are not made orthogonal first. Random numbers
    and running statistics are as before afterwards; nothing is dropped, and weights that layers share fit the last.

    Raises: ValueError where a layer gives the same number everywhere, or numbers that are not finite.

    >>> from gnnlib import GCNConv, Stack
    >>> g, x = dgl.add_self_loop(dgl.rand_graph(50, 200)), torch.randn(50, 16)
    >>> model = Stack.build(GCNConv, 16, 16, 16, num_layers=64)
    >>> lsuv_init_(model, g, x)
    >>> round(model(g, x).var().item(), 1)
    1.0
    """

    def fit(conv: nn.Module, given: tuple, y: Tensor) -> Tensor:
        matrices = [p for p in conv.parameters() if p.dim() > 1]
        for _ in range(tries if matrices else 0):
            variance = y.var().item()
            if not 0 < variance < float("inf"):
                raise ValueError(f"lsuv_init_: expected a variance above 0, got {variance} from {conv}")
            if abs(variance - 1) < tolerance:
                break
            for matrix in matrices:
                matrix.mul_(variance ** (-0.5 / len(matrices)))
            y = conv.forward(*given)
        return y

    convs = dict.fromkeys(block.conv for block in model.modules() if isinstance(block, GNNLayer))
    hooks = [conv.register_forward_hook(fit) for conv in convs]
    try:
        with preserve_state(model), torch.no_grad():
            model(*inputs)
    finally:
        for hook in hooks:
            hook.remove()
