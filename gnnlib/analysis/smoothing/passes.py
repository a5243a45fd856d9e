"""Forward and backward passes that record the outputs of layers and their gradients; the control graph."""

import inspect
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from gnnlib._utils.calls import is_of
from gnnlib.graph import GraphLike, adjacency, new_graph, takes_graph
from gnnlib.nn.conv.base import Conv
from gnnlib.nn.stack import Stack

__all__ = ["Forward", "Recording", "control_graph", "default_forward", "find_layers", "record_layers"]

Forward = Callable[[nn.Module, GraphLike, Tensor], Tensor]
FOREIGN_CONVS = ("dgl.nn.", "torch_geometric.nn.conv.")


def find_layers(model: nn.Module) -> list[tuple[str, nn.Module]]:
    """The blocks of a `Stack`; else message-passing layers; else the children, lists and single children expanded."""
    stack = next(((name, m) for name, m in model.named_modules() if isinstance(m, Stack)), None)
    if stack is not None:
        return [(_join(stack[0], f"blocks.{i}"), block) for i, block in enumerate(stack[1].blocks)]
    convs = [(name or type(m).__name__, m) for name, m in model.named_modules() if _is_conv(m)]
    return convs or _children("", model)


def _is_conv(module: nn.Module) -> bool:
    return isinstance(module, Conv) or is_of(module, *FOREIGN_CONVS)


def _children(prefix: str, module: nn.Module) -> list[tuple[str, nn.Module]]:
    children = [(_join(prefix, name), child) for name, child in module.named_children()]
    if not children:
        return [(prefix or type(module).__name__, module)]
    expanded = []
    for name, child in children:
        contains = isinstance(child, (nn.ModuleList, nn.ModuleDict)) or len(children) == 1
        expanded += _children(name, child) if contains else [(name, child)]
    return expanded


def _join(*names: str) -> str:
    return ".".join(name for name in names if name)


@takes_graph()
def control_graph(graph: GraphLike) -> GraphLike:
    """The control graph, in which each edge u->v is replaced by v->v, so that no node receives the features of another.

    In-degrees, edge features and the number of edges are those of the graph.
    """
    dst = adjacency(graph).dst.to(graph.idtype)
    control = new_graph(dst, dst, graph.num_nodes(), like=graph)
    control.ndata.update(graph.ndata)
    control.edata.update(graph.edata)
    if graph.batch_size > 1:
        control.set_batch_num_nodes(graph.batch_num_nodes())
        control.set_batch_num_edges(graph.batch_num_edges())
    return control


def default_forward(model: nn.Module, graph: GraphLike, x: Tensor) -> Tensor:
    """``model(graph, x)``, or ``model(x)`` if its forward takes one argument."""
    parameters = inspect.signature(model.forward).parameters.values()
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD, p.VAR_POSITIONAL)]
    takes_one = len(positional) == 1 and positional[0].kind != inspect.Parameter.VAR_POSITIONAL
    return model(x) if takes_one else model(graph, x)


class Recording(NamedTuple):
    """The outputs of one forward pass and the gradients of one backward pass."""

    output: Tensor
    outputs: list[tuple[str, Tensor]]  # of each call of a layer, in order
    gradients: list[Tensor | None]  # of the loss with respect to each
    input_gradient: Tensor | None


def record_layers(
    model: nn.Module,
    graph: GraphLike,
    x: Tensor,
    loss: Callable[[Tensor], Tensor],
    forward: Forward,
    layers: Sequence[tuple[str, nn.Module]],
) -> Recording:
    """One forward and one backward pass.

    Raises:
        TypeError: if the model returns no tensor
        ValueError: if no layer returns a tensor (rows, ..., F)
    """
    outputs: list[tuple[str, Tensor]] = []

    def hook(name: str) -> Callable:
        def record(module: nn.Module, args: object, out: object) -> None:
            if isinstance(out, Tensor) and out.is_floating_point() and out.dim() >= 2:
                calls = sum(previous.split("#")[0] == name for previous, _ in outputs)
                outputs.append((f"{name}#{calls + 1}" if calls else name, out))

        return record

    handles = [module.register_forward_hook(hook(name)) for name, module in layers]
    x = x.detach().clone().requires_grad_()
    try:
        torch.manual_seed(0)
        output = forward(model, graph, x.clone())  # the model may overwrite its input
    finally:
        for handle in handles:
            handle.remove()
    if not isinstance(output, Tensor) or output.dim() < 1:
        got = f"shape {tuple(output.shape)}" if isinstance(output, Tensor) else type(output).__name__
        raise TypeError(f"expected the model to return a tensor of shape (rows, ...), got {got}")
    if not outputs:
        raise ValueError(f"expected layers that return a tensor (rows, ..., F), got none from {[n for n, _ in layers]}")
    value = loss(output)
    tensors = [y for y in (x, *(y for _, y in outputs)) if y.requires_grad] if value.requires_grad else []
    gradients = torch.autograd.grad(value, tensors, allow_unused=True) if tensors else ()
    by_id = {id(y): gradient for y, gradient in zip(tensors, gradients, strict=True)}
    detached = [(name, y.detach()) for name, y in outputs]
    return Recording(output.detach(), detached, [by_id.get(id(y)) for _, y in outputs], by_id.get(id(x)))
