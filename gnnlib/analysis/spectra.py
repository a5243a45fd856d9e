"""Singular values of weights and of the Jacobians of layers (Arroyo et al. 2025)."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from scipy.sparse.linalg import LinearOperator, svds
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized

from gnnlib._utils.calls import names_checked
from gnnlib._utils.model_state import evaluation_mode
from gnnlib._utils.progress import ProgressBar
from gnnlib.analysis.smoothing.base import check_features
from gnnlib.analysis.smoothing.passes import Forward, default_forward, find_layers
from gnnlib.graph import GraphLike, takes_graph
from gnnlib.nn._arguments import check_model, integer

__all__ = ["jacobian_singular_values", "layer_singular_values", "weight_singular_values"]

DENSE = 512
"""The smaller side of a Jacobian up to which all of its rows are computed, if only some values are wanted."""

MAX_ENTRIES = 2**24
"""Of a Jacobian in memory: 128 MiB."""


@names_checked()
def weight_singular_values(model: nn.Module) -> dict[str, Tensor]:
    r"""The singular values of the weights of a model.

    Gradients of a deep network shrink where they are below 1 and grow where they are above. For a linear layer of GCN,
    Y = A X W, the singular values of the Jacobian are the products of those of A, which are at most 1, and of W
    (Arroyo et al. 2025, arXiv 2502.10818, section 3).

    Args:
        model: any module

    Shapes:
        - each output: (\*, min(rows, columns)), float64, descending

    Returns:
        the singular values by the name of the parameter, of all parameters with two axes or more (of the last two);
        where a weight has a parametrisation, of the weight that the layer uses

    Raises:
        TypeError: if it is no module

    Example:
        >>> import torch
        >>> from gnnlib.analysis import weight_singular_values
        >>> model = torch.nn.Linear(2, 2)
        >>> model.weight.data = torch.tensor([[0.0, 3.0], [2.0, 0.0]])
        >>> weight_singular_values(model)["weight"].round(decimals=6).tolist()
        [3.0, 2.0]
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"weight_singular_values: expected a model, got {type(model).__name__}")
    with torch.no_grad():
        return {name: torch.linalg.svdvals(weight.double()) for name, weight in _weights(model) if weight.dim() > 1}


def _weights(model: nn.Module) -> list[tuple[str, Tensor]]:
    """The parameters, with a weight that has a parametrisation in place of those behind it."""
    weights, prefixes = dict(model.named_parameters()), []
    for path, module in model.named_modules():
        if is_parametrized(module):
            prefix = f"{path}." if path else ""
            prefixes.append(f"{prefix}parametrizations.")
            names = module.parametrizations.keys()
            weights |= {prefix + name: getattr(module, name) for name in names}
    return [(name, weight) for name, weight in weights.items() if not name.startswith(tuple(prefixes))]


@names_checked()
def jacobian_singular_values(function: Callable[[Tensor], Tensor], x: Tensor, *, k: int | None = None) -> Tensor:
    r"""The singular values of the Jacobian of a function, :math:`\partial f(x) / \partial x`.

    Small Jacobians are computed. Of others, the largest k values are found by the Lanczos method from products with
    vectors: J^T v is a backward pass, and J u is the derivative of J^T v with respect to v. The function is called
    once.

    Args:
        function: of x, differentiable twice
        x: where
        k: the number of values, the largest ones; None: all, of at most 2^24 entries

    Shapes:
        - x: any
        - output: (k,), float64, descending

    Returns:
        the singular values

    Raises:
        ValueError: if k is below 1, or None for a large Jacobian
        TypeError: if x is not floating-point

    Example:
        >>> import torch
        >>> from gnnlib.analysis import jacobian_singular_values
        >>> weight = torch.diag(torch.tensor([1.0, 5.0, 2.0]))
        >>> jacobian_singular_values(lambda x: x @ weight, torch.ones(1, 3), k=2).tolist()
        [5.0, 2.0]
    """
    if not isinstance(x, Tensor) or not x.is_floating_point():
        got = x.dtype if isinstance(x, Tensor) else type(x).__name__
        raise TypeError(f"jacobian_singular_values: expected floating-point values x, got {got}")
    k = k if k is None else integer("jacobian_singular_values", "k", k)
    with torch.enable_grad():
        x = x.detach().clone().requires_grad_()
        y = function(x)
        side, small = min(x.numel(), y.numel()), x.numel() * y.numel() <= MAX_ENTRIES
        if k is None and not small:
            raise ValueError(
                f"jacobian_singular_values: expected k for a Jacobian of shape {(y.numel(), x.numel())}, got None"
            )
        if not y.requires_grad:
            return torch.zeros(side if k is None else min(k, side), dtype=torch.float64)
        products = _Products(x, y)
        if k is None or k >= side or (small and side <= DENSE):
            return torch.linalg.svdvals(products.dense())[:k]
        operator = LinearOperator((y.numel(), x.numel()), products.jvp, products.vjp, dtype=np.float64)
        start = np.random.default_rng(0).standard_normal(side)
        tol = torch.finfo(x.dtype).eps ** 0.5  # of the squares; smaller ones are not reached in the precision of x
        values = svds(operator, k, tol=tol, v0=start, return_singular_vectors=False)
    return torch.from_numpy(np.sort(values)[::-1].copy())


class _Products:
    """Products of a Jacobian with vectors, by backward passes alone."""

    def __init__(self, x: Tensor, y: Tensor):
        self.x, self.y = x, y
        self.v = torch.zeros_like(y, requires_grad=True)
        (self.g,) = torch.autograd.grad(y, x, self.v, create_graph=True, materialize_grads=True)  # J^T v

    def vjp(self, v: np.ndarray) -> np.ndarray:
        grad = torch.from_numpy(v).to(self.y).view_as(self.y)
        (product,) = torch.autograd.grad(self.y, self.x, grad, retain_graph=True, materialize_grads=True)
        return product.double().flatten().cpu().numpy()

    def jvp(self, u: np.ndarray) -> np.ndarray:
        if not self.g.requires_grad:
            return np.zeros(self.y.numel())
        grad = torch.from_numpy(u).to(self.x).view_as(self.x)
        (product,) = torch.autograd.grad(self.g, self.v, grad, retain_graph=True, materialize_grads=True)
        return product.double().flatten().cpu().numpy()

    def dense(self) -> Tensor:
        """By rows or by columns, whichever are fewer."""
        product, size = (self.vjp, self.y.numel()) if self.y.numel() <= self.x.numel() else (self.jvp, self.x.numel())
        return torch.from_numpy(np.stack([product(unit) for unit in np.eye(size)]))


@names_checked()
@takes_graph()
def layer_singular_values(
    model: nn.Module,
    graph: GraphLike,
    x: Tensor,
    *,
    k: int | None = 8,
    layers: Sequence[tuple[str, nn.Module]] | None = None,
    forward: Forward = default_forward,
) -> dict[str, Tensor]:
    r"""The largest singular values of the Jacobian of each layer, of its output with respect to its input features.

    .. math:: J = \partial \mathrm{vec}(H^{(l)}) \big/ \partial \mathrm{vec}(H^{(l - 1)})

    They are 1 where a layer keeps distances. If all are below 1, features and gradients shrink in each layer
    (over-smoothing to 0, and vanishing gradients: Arroyo et al. 2025, arXiv 2502.10818, section 3).

    The model runs in evaluation mode. It is unchanged afterwards.

    Args:
        model: any module
        graph: a whole graph or a batch
        x: features
        k: the number of values; None: all, of Jacobians of at most 2^24 entries
        layers: names and modules; default: as for `diagnose`, the blocks of a `gnnlib.Stack`, else message-passing
            layers, else the children
        forward: called as ``forward(model, graph, x)``; default ``model(graph, x)``, or ``model(x)`` if the model takes
            one argument

    Shapes:
        - x: (N, \*, F)
        - each output: (k,), float64, descending

    Returns:
        the singular values by the name of the layer; of a second call of a layer by "name#2"

    Raises:
        TypeError: for features that are not floating-point
        ValueError: for a graph with two node sets, x of another shape, or layers without floating-point inputs

    Example:
        >>> import torch
        >>> from gnnlib import GCNConv, Stack
        >>> from gnnlib.analysis import layer_singular_values
        >>> import dgl
        >>> _ = torch.manual_seed(0)
        >>> g = dgl.add_self_loop(dgl.to_bidirected(dgl.graph(tuple(torch.randint(50, (2, 200))))))
        >>> values = layer_singular_values(Stack.build(GCNConv, 8, 16, 4, num_layers=3), g, torch.randn(50, 8), k=3)
        >>> {name: tuple(value.shape) for name, value in values.items()}
        {'blocks.0': (3,), 'blocks.1': (3,), 'blocks.2': (3,)}
    """
    check_model("layer_singular_values", model, "a graph and x")
    check_features(graph, x)
    layers = find_layers(model) if layers is None else layers
    values: dict[str, Tensor] = {}
    with evaluation_mode(model):
        calls = _record_calls(model, graph, x, forward, layers)
        with ProgressBar("layers", len(calls)) as bar:
            for name, (function, features) in calls.items():
                values[name] = jacobian_singular_values(function, features, k=k)
                bar.advance()
    return values


Call = tuple[Callable[[Tensor], Tensor], Tensor]


def _record_calls(
    model: nn.Module, graph: GraphLike, x: Tensor, forward: Forward, layers: Sequence[tuple[str, nn.Module]]
) -> dict[str, Call]:
    """Each call of a layer as a function of its features, and these features."""
    calls: dict[str, Call] = {}

    def hook(name: str) -> Callable:
        def record(module: nn.Module, args: tuple[Any, ...], options: dict[str, Any]) -> None:
            place = next((i for i, a in enumerate(args) if isinstance(a, Tensor) and a.is_floating_point()), None)
            if place is None:
                raise ValueError(f"layer_singular_values: expected features as an argument of layer {name}, got none")
            number = 1 + sum(key.split("#")[0] == name for key in calls)
            features = args[place].detach().clone()

            def function(h: Tensor) -> Tensor:
                return module(*args[:place], h.clone(), *args[place + 1 :], **options)

            calls[name if number == 1 else f"{name}#{number}"] = function, features

        return record

    handles = [module.register_forward_pre_hook(hook(name), with_kwargs=True) for name, module in layers]
    try:
        with torch.no_grad():
            forward(model, graph, x.clone())
    finally:
        for handle in handles:
            handle.remove()
    return calls
