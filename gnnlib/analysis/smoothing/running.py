"""Running a model so that its layers are seen, with the graph's edges or without."""

import inspect
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from gnnlib._platform.dgl import dgl
from gnnlib.graph import adjacency
from gnnlib.nn.conv.base import Conv
from gnnlib.nn.stack import Stack

__all__ = ["Call", "Pass", "default_call", "find_layers", "run", "unlinked"]

Call = Callable[[nn.Module, dgl.DGLGraph, Tensor], Tensor]
FOREIGN_CONVS = ("dgl.nn.", "torch_geometric.nn.conv.")


def find_layers(model: nn.Module) -> list[tuple[str, nn.Module]]:
    """The blocks of a `Stack`; else message-passing layers; else the children, lists and single children opened."""
    stack = next(((name, m) for name, m in model.named_modules() if isinstance(m, Stack)), None)
    if stack is not None:
        return [(_join(stack[0], f"blocks.{i}"), block) for i, block in enumerate(stack[1].blocks)]
    convs = [(name or type(m).__name__, m) for name, m in model.named_modules() if _is_conv(m)]
    return convs or _children("", model)


def _is_conv(module: nn.Module) -> bool:
    return isinstance(module, Conv) or any(kind.__module__.startswith(FOREIGN_CONVS) for kind in type(module).__mro__)


def _children(prefix: str, module: nn.Module) -> list[tuple[str, nn.Module]]:
    inside = [(_join(prefix, name), child) for name, child in module.named_children()]
    if not inside:
        return [(prefix or type(module).__name__, module)]
    opened = []
    for name, child in inside:
        contains = isinstance(child, (nn.ModuleList, nn.ModuleDict)) or len(inside) == 1
        opened += _children(name, child) if contains else [(name, child)]
    return opened


def _join(*names: str) -> str:
    return ".".join(name for name in names if name)


def unlinked(graph: dgl.DGLGraph) -> dgl.DGLGraph:
    """The control: each edge u->v becomes v->v, so that a node hears itself as often as it heard its neighbours.

    Numbers of edges, their features and in-degrees stay; only what spreads from node to node is gone.
    """
    dst = adjacency(graph).dst.to(graph.idtype)
    alone = dgl.graph((dst, dst), num_nodes=graph.num_nodes())
    alone.ndata.update(graph.ndata)
    alone.edata.update(graph.edata)
    if graph.batch_size > 1:
        alone.set_batch_num_nodes(graph.batch_num_nodes())
        alone.set_batch_num_edges(graph.batch_num_edges())
    return alone


def default_call(model: nn.Module, graph: dgl.DGLGraph, x: Tensor) -> Tensor:
    """model(graph, x), or model(x) where its forward takes one argument."""
    given = inspect.signature(model.forward).parameters.values()
    places = [p for p in given if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD, p.VAR_POSITIONAL)]
    alone = len(places) == 1 and places[0].kind != inspect.Parameter.VAR_POSITIONAL
    return model(x) if alone else model(graph, x)


class Pass(NamedTuple):
    output: Tensor
    layers: list[tuple[str, Tensor]]  # each call of a layer, in order
    gradients: list[Tensor | None]  # of the loss by each
    of_input: Tensor | None


def run(
    model: nn.Module,
    graph: dgl.DGLGraph,
    x: Tensor,
    loss: Callable[[Tensor], Tensor],
    call: Call,
    layers: Sequence[tuple[str, nn.Module]],
) -> Pass:
    """Once forward and once back."""
    seen: list[tuple[str, Tensor]] = []

    def hook(name: str) -> Callable:
        def keep(module: nn.Module, args: object, out: object) -> None:
            if isinstance(out, Tensor) and out.is_floating_point() and out.dim() >= 2:
                times = sum(known.split("#")[0] == name for known, _ in seen)
                seen.append((f"{name}#{times + 1}" if times else name, out))

        return keep

    handles = [module.register_forward_hook(hook(name)) for name, module in layers]
    x = x.detach().clone().requires_grad_()
    try:
        torch.manual_seed(0)
        output = call(model, graph, x.clone())  # which the model may overwrite
    finally:
        for handle in handles:
            handle.remove()
    if not isinstance(output, Tensor) or output.dim() < 1:
        got = f"shape {tuple(output.shape)}" if isinstance(output, Tensor) else type(output).__name__
        raise TypeError(f"expected the model to return a tensor of shape (rows, ...), got {got}")
    if not seen:
        raise ValueError(f"expected layers that return a tensor (rows, ..., F), got none from {[n for n, _ in layers]}")
    value = loss(output)
    asked = [y for y in (x, *(y for _, y in seen)) if y.requires_grad] if value.requires_grad else []
    found = torch.autograd.grad(value, asked, allow_unused=True) if asked else ()
    by_id = {id(y): g for y, g in zip(asked, found, strict=True)}
    gradients = [by_id.get(id(y)) for _, y in seen]
    return Pass(output.detach(), [(name, y.detach()) for name, y in seen], gradients, by_id.get(id(x)))
