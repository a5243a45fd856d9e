"""Conversion of PyTorch image networks to networks on graphs."""

import operator
from collections import Counter
from collections.abc import Sequence
from copy import deepcopy
from itertools import chain
from math import prod
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from gnnlib._utils.calls import names_checked
from gnnlib.graph import GraphLike, takes_graph
from gnnlib.graph._check import check_graph
from gnnlib.grid import masked
from gnnlib.grid.convert import Step
from gnnlib.grid.dense import to_images
from gnnlib.grid.masked import Masked
from gnnlib.grid.tracing import Program, Shapes, caller, convert, trace, unsupported
from gnnlib.nn._arguments import check_model

__all__ = ["GridNetwork", "connections", "from_torch"]


@names_checked(image_size="input_size=", input_shape="input_size=", in_shape="input_size=")
def from_torch(module: nn.Module, input_size: Sequence[int], backend: str = "graph") -> "GridNetwork":
    """Convert an image network to graphs: every convolution and pooling, in a module or a plain function, becomes a
    `GridConv`, `GridConvTranspose` or `GridPool` on the lattice of its window.

    Everything else (norms, activations, dropout, linear layers, addition, concatenation, ...) remains PyTorch's and
    runs on nodes as images. The weights are copied under the same names, so that state dicts load in both directions.
    With the same seed, dropout masks are equal.

    Args:
        module: a network of one input, images (B, C, \\*size), that ``torch.fx`` can trace: branches and several
            outputs, but no control flow that depends on data. Training and evaluation mode are both traced
        input_size: (C, \\*size) of an image. The network accepts other sizes; each is checked before its first run
        backend: "graph": message passing; "dense": PyTorch's own kernels for the same windows. Can be set later,
            ``net.backend = "dense"``

    Raises:
        TypeError: if ``module`` is no module, or ``input_size`` are no integers
        ValueError: if a function or module cannot be converted; the message names all of them.
        ValueError: if control flow depends on data, shapes do not fit, a window is larger than its padded input, or the
            backend is unknown.

    Example:
        >>> from torch import nn
        >>> import torch
        >>> from gnnlib.grid import from_torch
        >>> from gnnlib.images import pixel_batch
        >>> net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(36, 10))
        >>> images, converted = torch.randn(5, 1, 8, 8), from_torch(net, (1, 8, 8))
        >>> torch.allclose(converted(images), net(images), atol=1e-5)
        True
        >>> list(converted.state_dict()) == list(net.state_dict())
        True
        >>> converted(pixel_batch((8, 8), 5), images.flatten(2).mT.flatten(0, 1)).shape
        torch.Size([5, 10])
    """
    check_model("from_torch", module, "input_size")
    if isinstance(module, torch.jit.ScriptModule):
        raise TypeError(f"from_torch: expected the module before torch.jit, got a {type(module).__name__}")
    input_size = _size(input_size)
    root = deepcopy(module)
    modes = {part: part.training for part in root.modules()}
    graphs = {mode: trace(root.train(mode)) for mode in (True, False)}
    for part, mode in modes.items():
        part.training = mode
    errors = list(dict.fromkeys(chain(*(unsupported(root, graph) for graph in graphs.values()))))
    if errors:
        raise ValueError(
            "from_torch: expected convolutions, pooling, norms, activations, dropout, linear layers, and elementwise "
            f"or shape functions, got {', '.join(errors)}"
        )
    graphs = {mode: convert(graph) for mode, graph in graphs.items()}
    network = GridNetwork(root, input_size, graphs, backend)
    network.check_shape(network.input_size)
    return network


def _size(input_size: Any) -> tuple[int, ...]:
    """The size (C, \\*size) of an image, if it is one."""
    try:
        return tuple(operator.index(side) for side in input_size)
    except (TypeError, ValueError):
        shape = tuple(getattr(input_size, "shape", ()))[1:]
        example = shape if len(shape) > 1 else (3, 32, 32)
        got = f"a {type(input_size).__name__}" if shape else repr(input_size)
        raise TypeError(
            f"from_torch: expected input_size to be the integers (C, *size) of an image, {example}, got {got}"
        ) from None


@names_checked()
class GridNetwork(nn.Module):
    """An image network on graphs, as `from_torch` returns it.

    It takes images (B, C, \\*size) as the original does, or a graph and its node features: a batch of B grids of
    ``input_size``, lattices or pixel graphs, with x (B N, C). Its output is that of the original.

    Pixels may have been removed from the grids, by a mask of :func:`~gnnlib.images.pixel_graph`, or from a batch by
    ``dgl.remove_nodes``; ``ndata["pos"]`` says which remain. A removed pixel sends no message, and means, maxima and
    norms do not count it. The outputs of a convolution or pooling that keeps the size of the grid remain where its
    inputs do, as those of :class:`GridConv` on the graph itself; those of any other, such as one with a stride, remain
    where a pixel of their window does. Absent outputs are 0, and linear layers take absent inputs as 0. The edges of
    the graph are not used: the windows are the network's.

    Raises:
        ValueError: if the images or nodes have another shape.
        ValueError: if pixels were removed and positions are missing, repeated or outside the grid, or a function of the
            network has no meaning without them.
    """

    root: nn.Module  # has the same submodules, under the names in the traced graph

    def __init__(self, root: nn.Module, input_size: Sequence[int], graphs: dict[bool, fx.Graph], backend: str):
        super().__init__()
        self.training = root.training
        self.input_size = tuple(input_size)
        self.backend = backend
        self.programs = {mode: Program(graph) for mode, graph in graphs.items()}
        self._checked_shapes: set[tuple[int, ...]] = set()
        self._parameters, self._buffers, self._modules = root._parameters, root._buffers, root._modules
        self._non_persistent_buffers_set = root._non_persistent_buffers_set
        self.__dict__["root"] = root

    @property
    def backend(self) -> str:
        return "dense" if self._dense else "graph"

    @backend.setter
    def backend(self, name: str) -> None:
        if name not in ("graph", "dense"):
            raise ValueError(f"backend: expected 'graph' or 'dense', got {name!r}")
        self._dense = name == "dense"

    def forward(self, images: Tensor | GraphLike, x: Tensor | None = None) -> Any:
        """Run the network.

        Args:
            images: images, or a graph
            x: the node features of the graph

        Shapes:
            - images: (B, C, \\*size)
            - x: (B N, C)

        Returns:
            The output of the original network.
        """
        mask = None
        if not isinstance(images, Tensor):
            images, mask = self._images(images, x)
        if images.dim() != len(self.input_size) + 1:
            raise ValueError(f"expected images (B, {self.input_size[0]}, *size), got {tuple(images.shape)}")
        if images.shape[1:] not in self._checked_shapes:
            self.check_shape(tuple(images.shape[1:]))
        program = self.programs[self.training]
        if mask is None:
            return program.run(self.root, images, self._dense)
        return masked.run(program, self.root, Masked(images, mask), self._dense)

    @takes_graph()
    def _images(self, graph: GraphLike, x: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """The images, and a mask (B, 1, \\*size) of the pixels that remain; None if all do."""
        check_graph("GridNetwork", graph)
        channels, *size = self.input_size
        nodes = graph.batch_num_nodes(graph.srctypes[0])
        if (nodes > prod(size)).any():
            raise ValueError(
                f"expected graphs of {prod(size)} nodes, {tuple(size)}, got {sorted(set(nodes.tolist()))}; if DGL's "
                "edits dropped the sizes of a batch: graph.set_batch_num_nodes"
            )
        if x is None or x.shape != (int(nodes.sum()), channels):
            got = None if x is None else tuple(x.shape)
            raise ValueError(f"expected x of shape {(int(nodes.sum()), channels)}, got {got}")
        if (nodes == prod(size)).all():
            return to_images(x, size), None
        cells = _cells(graph, nodes, size).to(x.device)
        total = len(nodes) * prod(size)
        images = x.new_zeros(total, channels).index_copy(0, cells, x)
        mask = torch.zeros(total, 1, dtype=torch.bool, device=x.device).index_fill(0, cells, True)
        return to_images(images, size), to_images(mask, size)

    @torch.no_grad()
    def check_shape(self, shape: tuple[int, ...]) -> None:
        """Raise ValueError if a submodule does not accept images of this shape, (C, \\*size)."""
        constants = (value for value in vars(self.root).values() if isinstance(value, Tensor))
        tensors = {id(t): t.to("meta") for t in chain(self.parameters(), self.buffers(), constants)}
        blank = deepcopy(self.root, tensors)
        for program in self.programs.values():
            Shapes(blank, program.graph).run(torch.empty(2, *shape, dtype=_dtype(self), device="meta"), False)
        self._checked_shapes.add(shape)


def _cells(graph: GraphLike, nodes: Tensor, size: Sequence[int]) -> Tensor:
    """The cells of the remaining pixels, numbered over the whole grids of a batch with these numbers of nodes."""
    expected = f"graphs of {prod(size)} nodes, {tuple(size)}"
    pos = graph.srcdata.get("pos")
    if pos is None or pos.dim() != 2 or pos.shape[1] != len(size):
        got = f"{sorted(set(nodes.tolist()))} nodes and {'no positions' if pos is None else tuple(pos.shape)}"
        raise ValueError(f'expected {expected}, or ndata["pos"] (N, {len(size)}) of the pixels that remain, got {got}')
    at, limit = pos.double().cpu(), torch.tensor(size)
    if ((at != at.round()) | (at < 0) | (at >= limit)).any():
        raise ValueError(
            f'expected ndata["pos"] in whole pixels of {tuple(size)}, got {at.min():g} to {at.max():g}; if it was '
            "scaled, restore it"
        )
    cells = torch.from_numpy(np.ravel_multi_index(tuple(at.long().T.numpy()), tuple(size)))
    cells = cells + prod(size) * torch.repeat_interleave(torch.arange(len(nodes)), nodes.cpu())
    if len(cells.unique()) != len(cells):
        raise ValueError(
            f"expected {expected} or fewer, at different positions, got some at one; if DGL's edits dropped the sizes "
            "of a batch: graph.set_batch_num_nodes"
        )
    return cells


@names_checked()
def connections(net: GridNetwork) -> dict[str, int]:
    """The number of connections of each submodule, those of its children included; "" is the network.

    The definition is that of LeCun et al. (1998, "Gradient-based learning applied to document recognition", section
    II.B). On a lattice: edges, times the pairs of maps that have a kernel (kernels that are 0 for all parameters are
    not counted; in pooling, each map with itself), and one per output with a bias. In a linear layer: inputs times
    outputs, and the biases. Elsewhere: one per element to which a parameter or a buffer is added, or from which it is
    subtracted.

    Example:
        >>> from torch import nn
        >>> from gnnlib.grid import connections, from_torch
        >>> net = from_torch(nn.Sequential(nn.Conv2d(1, 6, 5), nn.AvgPool2d(2)), (1, 32, 32))
        >>> connections(net)
        {'': 127008, '0': 122304, '1': 4704}
    """
    root = deepcopy(net.root).eval()
    counter = _Connections(root, net.programs[net.training].graph)
    with torch.no_grad():
        for parameter in root.parameters():  # kernels that are still 0 do not depend on the parameters
            parameter.copy_(torch.linspace(1, 2, parameter.numel()).view_as(parameter))
        counter.run(torch.zeros(1, *net.input_size, dtype=_dtype(net)), False)
    total: Counter[str] = Counter()
    for node, number in counter.counts:
        parts = caller(node)[0].split(".") if caller(node)[0] else []
        total.update({".".join(parts[:depth]): number for depth in range(len(parts) + 1)})
    return dict(total)


def _dtype(net: nn.Module) -> torch.dtype | None:
    return next((p.dtype for p in net.parameters()), None)


class _Connections(Shapes):
    """Count the connections of every node of the traced graph."""

    def __init__(self, module: nn.Module, graph: fx.Graph):
        super().__init__(module, graph)
        self.counts: list[tuple[fx.Node, int]] = []
        self.variable = set(graph.find_nodes(op="placeholder"))  # nodes that depend on the images
        for node in graph.nodes:
            if self.variable.intersection(node.all_input_nodes):
                self.variable.add(node)

    def run_node(self, n: fx.Node) -> Any:
        value = super().run_node(n)
        inputs = set(n.all_input_nodes)
        if n.op == "call_function" and hasattr(n.target, "step"):
            self.counts.append((n, _edges(self.step(n.target, *self.fetch_args_kwargs_from_env(n)))))
        elif n.target is F.linear:
            width = self.env[n.all_input_nodes[0]].shape[-1]
            self.counts.append((n, value.numel() * (width + (len(inputs) == 3))))
        elif n.target in (operator.add, operator.sub) and n in self.variable and inputs - self.variable:
            self.counts.append((n, value.numel()))
        return value


def _edges(step: Step) -> int:
    pairs = step.channels if step.weight is None else int(step.weight.flatten(2).any(2).sum())
    biases = 0 if step.bias is None else step.channels * prod(step.size)
    return pairs * step.lattice().num_edges() + biases
