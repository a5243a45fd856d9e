"""Initialisation of deep networks: weights whose outputs and gradients keep their variance at any depth."""

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from gnnlib._utils.calls import names_checked
from gnnlib._utils.model_state import preserve_state
from gnnlib.graph import GraphLike
from gnnlib.nn.layer import GNNLayer
from gnnlib.nn.norm import Norm

__all__ = ["SkipInit", "lsuv_init_"]


class SkipInit(Norm):
    r"""SkipInit (De and Smith 2020, arXiv 2002.10444): one learned factor, initially 0.

    .. math:: y = \alpha\, x

    It is the ``norm`` of a `GNNLayer` with a `Residual`, in place of a normalisation: x + alpha f(x). Each layer is the
    identity initially, so features and gradients pass unchanged at any depth, but for the activation after the sum: a
    ReLU sets negative features to 0, once.

    Args:
        feats: width of x; optional, as there is one parameter for any width

    Shapes:
        - x: (N, \*, F)
        - output: the same

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from gnnlib import GCNConv, GNNLayer, Residual, SkipInit
        >>> import dgl
        >>> g, x = dgl.graph(([0, 1], [1, 0])), torch.rand(2, 3)
        >>> layer = GNNLayer(GCNConv(3, 3), norm=SkipInit(3), skip=Residual(3, 3), activation=nn.ReLU())
        >>> torch.equal(layer(g, x), x)
        True
    """

    renamed: ClassVar = {**Norm.renamed, "alpha": "no alpha (it is learned, and 0 initially)"}

    def __init__(self, feats: int | None = None):
        super().__init__(feats)
        self.scale = nn.Parameter(torch.zeros(()))

    def reset_parameters(self) -> None:
        """Set alpha to 0."""
        nn.init.zeros_(self.scale)

    def forward(self, graph: GraphLike, x: Tensor) -> Tensor:
        """Multiply by alpha.

        Args:
            graph: not used
            x: features, (N, \\*, F)

        Returns:
            The scaled features, of the same shape.
        """
        return self.scale * x


@names_checked()
def lsuv_init_(model: nn.Module, *inputs: Any, tolerance: float = 0.05, tries: int = 10) -> None:
    r"""Layer-sequential unit variance (LSUV: Mishkin and Matas 2016, arXiv 1511.06422, algorithm 1): scales the weights
    of each layer until its output on these inputs has variance 1.

    .. math:: W \leftarrow W \big/ \sqrt{\mathrm{Var}(y)}

    The layers are the convolutions of all `GNNLayer` of ``model``, in the order in which they run. A layer with n
    matrices multiplies each by the n-th root of the factor, and repeats; one without matrices is not changed. With ReLU
    gradients keep their size too, within a factor of 1000 over 64 layers of any kind. It is for networks without
    residuals: a sum of residuals grows with depth and needs a norm or `SkipInit`. It does not prevent over-smoothing,
    which does not depend on scale.

    Differs from the paper: weights are not made orthogonal first. Random numbers and running statistics are restored
    afterwards; nothing is dropped. Weights that layers share fit the last of them.

    Args:
        model: a `Stack`, or any module with `GNNLayer` inside
        inputs: the arguments of ``model``, such as ``graph, x``
        tolerance: of the variance
        tries: at most, for each layer

    Raises:
        ValueError: if the output of a layer is constant or not finite

    Example:
        >>> import torch
        >>> from gnnlib import GCNConv, Stack, lsuv_init_
        >>> import dgl
        >>> g, x = dgl.add_self_loop(dgl.rand_graph(50, 200)), torch.randn(50, 16)
        >>> model = Stack.build(GCNConv, 16, 16, 16, num_layers=64)
        >>> lsuv_init_(model, g, x)
        >>> round(model(g, x).var().item(), 1)
        1.0
    """

    def scale(conv: nn.Module, args: tuple, y: Tensor) -> Tensor:
        matrices = [p for p in conv.parameters() if p.dim() > 1]
        for _ in range(tries if matrices else 0):
            variance = y.var().item()
            if not 0 < variance < float("inf"):
                raise ValueError(f"lsuv_init_: expected a variance above 0, got {variance} from {conv}")
            if abs(variance - 1) < tolerance:
                break
            for matrix in matrices:
                matrix.mul_(variance ** (-0.5 / len(matrices)))
            y = conv.forward(*args)
        return y

    convs = dict.fromkeys(block.conv for block in model.modules() if isinstance(block, GNNLayer))
    hooks = [conv.register_forward_hook(scale) for conv in convs]
    try:
        with preserve_state(model), torch.no_grad():
            model(*inputs)
    finally:
        for hook in hooks:
            hook.remove()
