"""What a layer sees: receptive fields, the filter at a node, and what becomes of a shift."""

from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise

import torch
from torch import Tensor

from gnnlib._platform.dgl import dgl
from gnnlib.graph import edge_endpoints

__all__ = ["extent", "filter_at", "influence", "receptive_field", "shift_invariance"]


def receptive_field(graphs: Sequence[dgl.DGLGraph], node: int | Sequence[int]) -> Tensor:
    r"""The input nodes from which an edge path leads to an output node through a row of graphs, one for each layer:
    row v of the product of their adjacency matrices, read as true and false.

    .. math:: R_v = \{u : (A_L \cdots A_2 A_1)_{vu} > 0\}

    For convolutions and poolings these are the lattices. Along an axis, windows of c taps with dilation d and stride s
    see r cells, where r starts at 1 and each layer adds d (c - 1) times the strides before it (Dumoulin and Visin 2016,
    arXiv 1603.07285; Araujo et al. 2019, "Computing Receptive Fields of Convolutional Neural Networks").

    Args:
        graphs: first layer first; lattices, pixel or superpixel graphs, blocks. The same graph k times: k hops. A layer
            that adds a node's own features sees it too: give its graph self-loops
        node: of the last graph; several: what any of them sees

    Shapes: returns (N_src of the first graph,), bool.

    Raises: ValueError for no graphs, for one that does not have as many destinations as the next has sources, or for a
        node that is not there.

    >>> from gnnlib.grid import lattice
    >>> receptive_field([lattice(9, 3), lattice(7, 3, dilation=2)], 0).nonzero().flatten().tolist()
    [0, 1, 2, 3, 4, 5, 6]
    """
    if not graphs:
        raise ValueError("graphs: expected at least one, got none")
    for layer, (one, after) in enumerate(pairwise(graphs)):
        if one.num_dst_nodes() != after.num_src_nodes():
            raise ValueError(
                f"graphs: expected {after.num_src_nodes()} destinations, the sources of graph {layer + 1}, "
                f"in graph {layer}, got {one.num_dst_nodes()}"
            )
    nodes = torch.as_tensor(node).reshape(-1)
    if bool(((nodes < 0) | (nodes >= graphs[-1].num_dst_nodes())).any()):
        raise ValueError(f"node: expected numbers from 0 to {graphs[-1].num_dst_nodes() - 1}, got {node}")
    seen = torch.zeros(graphs[-1].num_dst_nodes(), dtype=torch.bool)
    seen[nodes] = True
    for graph in reversed(graphs):
        src, dst = (end.long().cpu() for end in edge_endpoints(graph))
        now, seen = seen, torch.zeros(graph.num_src_nodes(), dtype=torch.bool)
        seen[src[now[dst]]] = True
    return seen


def extent(graph: dgl.DGLGraph, seen: Tensor) -> tuple[int, ...]:
    """How many pixels the smallest box around the sources ``seen`` has along each axis.

    Shapes: seen (N_src,), bool, as from :func:`receptive_field`, and ``graph`` the first of its graphs.

    Raises: ValueError where nothing is seen; KeyError for a graph without ``srcdata["pos"]``.

    >>> from gnnlib.grid import lattice
    >>> g = lattice((9, 9), 3, dilation=3)
    >>> extent(g, receptive_field([g], 4))
    (7, 7)
    """
    if not seen.any():
        raise ValueError("seen: expected at least one node, got none")
    if "pos" not in graph.srcdata:
        raise KeyError(f'expected a graph with srcdata["pos"], got srcdata with {sorted(graph.srcdata)}')
    pos = graph.srcdata["pos"].cpu()[seen]
    return tuple(int(side) + 1 for side in pos.amax(0) - pos.amin(0))


def influence(net: Callable[[Tensor], Tensor], images: Tensor, where: object, batch_size: int = 256) -> Tensor:
    """Which cells of its input an output of any network can depend on, whatever its weights: a NaN is put into each
    cell in turn, and goes wherever the network can take a value, through weights of 0 and lost maxima too.

    Args:
        net: called on images, a :func:`gnnlib.grid.from_torch` network or any other, in evaluation mode: batch norm in
            training mode would carry a NaN to all images; on the CPU, as a GPU's fast convolutions may mix cells nearby
        images: one image, of any finite values
        where: the output, as the index into that of one image: ``(..., 3, 4)`` is row 3 and column 4 in any channel,
            ``7`` is class 7
        batch_size: how many cells at once

    Shapes: images (1, C, \\*size); returns (\\*size,), bool.

    Raises: ValueError for more than one image, one that is not finite, or a network that is already NaN at ``where``.

    >>> net = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.ReLU(), torch.nn.MaxPool2d(2))
    >>> influence(net, torch.zeros(1, 1, 8, 8), (..., 0, 0)).sum(0)
    tensor([4, 4, 4, 4, 0, 0, 0, 0])
    """
    if images.dim() < 3 or len(images) != 1 or not bool(images.isfinite().all()):
        raise ValueError(f"images: expected one finite image, (1, C, *size), got {tuple(images.shape)}")
    index = (slice(None), *(where if isinstance(where, tuple) else (where,)))
    with torch.no_grad():
        if bool(net(images)[index].isnan().any()):
            raise ValueError(f"net: expected numbers at {where}, got NaN")
        found = []
        for cells in torch.arange(images[0, 0].numel(), device=images.device).split(batch_size):
            spoilt = images.flatten(2).repeat(len(cells), 1, 1)
            spoilt[torch.arange(len(cells)), :, cells] = torch.nan
            found.append(net(spoilt.unflatten(2, images.shape[2:]))[index].reshape(len(cells), -1).isnan().any(1))
    return torch.cat(found).view(images.shape[2:])


def filter_at(layer: Callable[[dgl.DGLGraph, Tensor], Tensor], graph: dgl.DGLGraph, x: Tensor, node: int) -> Tensor:
    r"""The filter that a layer applies at one node: its row of the operator,

    .. math:: \frac{\partial y_v}{\partial x}

    by automatic differentiation, so of any layer. Of a linear one (`GridConv`, GCN, edge-conditioned, predicted edges)
    it does not depend on x; of an attention it is the filter for this x, which also holds how the attention moves.

    Args:
        layer: called as ``layer(graph, x)``; one with edges as ``lambda graph, x: layer(graph, x, edge)``
        x: features of the sources
        node: v

    Shapes: x (N_src, F); returns (outputs, N_src, F), where outputs are all of ``y[node]``, heads first.

    Raises: ValueError for x of another shape, or a node that is not there.

    >>> from gnnlib.grid import GridConv, lattice
    >>> conv = GridConv(1, 1, (3,))
    >>> row = filter_at(conv, lattice(7, 3), torch.zeros(7, 1), 2).flatten()
    >>> row.nonzero().flatten().tolist(), torch.equal(row[2:5], conv.weight.flatten())
    ([2, 3, 4], True)
    """
    if x.dim() != 2 or len(x) != graph.num_src_nodes():
        raise ValueError(f"x: expected shape ({graph.num_src_nodes()}, F), got {tuple(x.shape)}")
    if not 0 <= node < graph.num_dst_nodes():
        raise ValueError(f"node: expected a number from 0 to {graph.num_dst_nodes() - 1}, got {node}")
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        outputs = layer(graph, x)[node].flatten()
        rows = [torch.autograd.grad(y, x, retain_graph=True, materialize_grads=True)[0] for y in outputs]
    return torch.stack(rows)


def shift_invariance(net: Callable[[Tensor], Tensor], images: Tensor, shifts: Iterable[int], axis: int = -1) -> Tensor:
    r"""How much the output changes when the images move by s pixels, against its size,

    .. math:: \frac{\|f(T_s x) - f(x)\|}{\|f(x)\|}

    over all images together: 0 is invariant. T_s is circular: what leaves on one side comes back on the other, which is
    a plain shift of images with an empty margin.

    Args:
        net: called on images; a pooling as ``lambda images: pool(graph, to_nodes(images))``
        shifts: each s, say ``range(5)``
        axis: of the images, along which they move

    Shapes: images (B, C, \*size); returns (len(shifts),).

    >>> from gnnlib.grid import GridPool, adaptive_lattice, lattice, to_nodes
    >>> images = torch.zeros(1, 1, 4, 4).index_fill(3, torch.tensor(0), 1.0)
    >>> for graph in (lattice((4, 4), 2, stride=2), adaptive_lattice((4, 4), 1)):
    ...     shift_invariance(lambda images: GridPool("max")(graph, to_nodes(images)), images, range(3)).tolist()
    [0.0, 0.0, 1.4142135381698608]
    [0.0, 0.0, 0.0]
    """
    with torch.no_grad():
        y = net(images)
        change = torch.stack([(net(images.roll(shift, axis)) - y).norm() for shift in shifts])
        return torch.where(change == 0, change, change / y.norm())
