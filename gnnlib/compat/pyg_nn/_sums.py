"""Sums over in-neighbours and dense products, as PyG's layers order them."""

from typing import Any

from torch import Tensor, nn
from torch_geometric.nn.dense.linear import Linear

from gnnlib.compat.pyg_nn._routing import Unserved
from gnnlib.graph import Adjacency
from gnnlib.ops import aggregate
from gnnlib.ops.linear import linear

__all__ = ["dense", "is_linear", "neighbour_sum", "reduction", "transformed_sum"]

REDUCTIONS = {"add": "sum", "sum": "sum", "mean": "mean", "max": "max"}
HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


def reduction(layer: Any, *names: str) -> str:
    """The reduction of a layer: "sum", "mean" or "max".

    Raises:
        Unserved: if it is another one, or not one of ``names``
    """
    name = REDUCTIONS.get(layer.aggr) if isinstance(layer.aggr, str) else None
    if name is None or (names and name not in names):
        raise Unserved
    return name


def neighbour_sum(layer: Any, adj: Adjacency, x: Tensor, weight: Tensor | None = None) -> Tensor:
    """The reduction of a layer over weight x_u."""
    if weight is not None:
        if weight.dtype != x.dtype or weight.numel() != adj.num_edges:
            raise Unserved
        weight = weight.reshape(-1)
    return aggregate(adj, x, weight, reduction(layer))


def dense(module: Any, x: Tensor) -> Tensor:
    """A linear layer, on the faster library unless something observes it."""
    return linear(x, module.weight, module.bias) if is_linear(module) else module(x)


def is_linear(module: Any) -> bool:
    """Whether a module is a linear layer whose call is nothing but its product."""
    return type(module) in (Linear, nn.Linear) and not any(getattr(module, name) for name in HOOKS)


def transformed_sum(layer: Any, adj: Adjacency, x: Tensor, weight: Tensor | None, module: Any) -> Tensor:
    """The sum over neighbours of a linear layer without bias; the narrower rows are summed."""
    if is_linear(module) and module.bias is None and len(module.weight) > x.shape[1] and reduction(layer) != "max":
        return dense(module, neighbour_sum(layer, adj, x, weight))
    return neighbour_sum(layer, adj, dense(module, x), weight)
