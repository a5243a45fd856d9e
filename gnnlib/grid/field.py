"""Receptive fields, effective filters and shift invariance of layers."""

from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise

import torch
from torch import Tensor

from gnnlib._utils.calls import names_checked
from gnnlib.graph import GraphLike, edge_endpoints, takes_graph, takes_graphs

__all__ = ["extent", "filter_at", "influence", "receptive_field", "shift_invariance"]


@names_checked()
@takes_graphs
def receptive_field(graphs: Sequence[GraphLike], node: int | Sequence[int]) -> Tensor:
    r"""The receptive field of an output node: the input nodes with a path to it through a sequence of graphs, one per
    layer. It is the support of row v of the product of their adjacency matrices.

    .. math:: R_v = \{u : (A_L \cdots A_2 A_1)_{vu} > 0\}

    For convolutions and poolings these are the lattices. Along an axis, windows of c taps with dilation d and stride s
    have a receptive field of r cells, where r starts at 1 and each layer adds d (c - 1) times the strides before it
    (Dumoulin and Visin 2016, arXiv 1603.07285; Araujo et al. 2019, "Computing Receptive Fields of Convolutional Neural
    Networks").

    Args:
        graphs: first layer first; lattices, pixel or superpixel graphs, blocks. The same graph k times: k hops. For a
            layer that adds a node's own features add self-loops to its graph
        node: of the last graph; several: the union of their fields

    Shapes:
        - output: (N_src of the first graph,), bool

    Raises:
        ValueError: if there are no graphs, or one has not as many destinations as the next has sources.
        ValueError: if the node is out of range.

    Example:
        >>> from gnnlib.grid import lattice, receptive_field
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
    mask = torch.zeros(graphs[-1].num_dst_nodes(), dtype=torch.bool)
    mask[nodes] = True
    for graph in reversed(graphs):
        src, dst = (ids.long().cpu() for ids in edge_endpoints(graph))
        dst_mask, mask = mask, torch.zeros(graph.num_src_nodes(), dtype=torch.bool)
        mask[src[dst_mask[dst]]] = True
    return mask


@names_checked()
@takes_graph("mask")
def extent(graph: GraphLike, mask: Tensor) -> tuple[int, ...]:
    """The size in pixels, along each axis, of the smallest box around some source nodes.

    Args:
        graph: with ``srcdata["pos"]`` in pixels
        mask: the source nodes, as from :func:`receptive_field` of graphs that start with ``graph``

    Shapes:
        - mask: (N_src,), bool

    Raises:
        ValueError: if the mask has no node.
        KeyError: if the graph has no ``srcdata["pos"]``.

    Example:
        >>> from gnnlib.grid import extent, lattice, receptive_field
        >>> g = lattice((9, 9), 3, dilation=3)
        >>> extent(g, receptive_field([g], 4))
        (7, 7)
    """
    if not mask.any():
        raise ValueError("mask: expected at least one node, got none")
    if "pos" not in graph.srcdata:
        raise KeyError(f'expected a graph with srcdata["pos"], got srcdata with {sorted(graph.srcdata)}')
    pos = graph.srcdata["pos"].cpu()[mask]
    return tuple(int(side) + 1 for side in pos.amax(0) - pos.amin(0))


@names_checked()
def influence(net: Callable[[Tensor], Tensor], images: Tensor, where: object, batch_size: int = 256) -> Tensor:
    """The input cells on which an output of any network can depend, for any weights. Each cell in turn is set to NaN,
    which propagates to every output that can depend on it, also through weights of 0 and maxima.

    Args:
        net: called on images, a :func:`gnnlib.grid.from_torch` network or any other; in evaluation mode, because batch
            norm in training mode spreads a NaN to all images; on the CPU, because fast convolutions of a GPU may mix
            nearby cells
        images: one image with finite values
        where: the index of the output of one image: ``(..., 3, 4)`` is row 3 and column 4 in any channel,
            ``7`` is class 7
        batch_size: number of cells per forward pass

    Shapes:
        - images: (1, C, \\*size)
        - output: (\\*size,), bool

    Raises:
        ValueError: if there is more than one image, it is not finite, or the output at ``where`` is NaN for it.

    Example:
        >>> import torch
        >>> from gnnlib.grid import influence
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
        depends = []
        for cells in torch.arange(images[0, 0].numel(), device=images.device).split(batch_size):
            perturbed = images.flatten(2).repeat(len(cells), 1, 1)
            perturbed[torch.arange(len(cells)), :, cells] = torch.nan
            depends.append(net(perturbed.unflatten(2, images.shape[2:]))[index].reshape(len(cells), -1).isnan().any(1))
    return torch.cat(depends).view(images.shape[2:])


@names_checked()
@takes_graph()
def filter_at(layer: Callable[[GraphLike, Tensor], Tensor], graph: GraphLike, x: Tensor, node: int) -> Tensor:
    r"""The effective filter of a layer at one node: its row of the Jacobian,

    .. math:: \frac{\partial y_v}{\partial x}

    by automatic differentiation, for any layer. For a linear layer (`GridConv`, GCN, edge-conditioned, predicted edges)
    it does not depend on x; for attention it is the filter at this x, including the derivative of the attention.

    Args:
        layer: called as ``layer(graph, x)``; with edge features as ``lambda graph, x: layer(graph, x, edge)``
        graph: any graph
        x: features of the sources
        node: v

    Shapes:
        - x: (N_src, F)
        - output: (outputs, N_src, F), where outputs are all of ``y[node]``, heads first

    Raises:
        ValueError: if x has another shape, or the node is out of range.

    Example:
        >>> import torch
        >>> from gnnlib.grid import GridConv, filter_at, lattice
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


@names_checked()
def shift_invariance(net: Callable[[Tensor], Tensor], images: Tensor, shifts: Iterable[int], axis: int = -1) -> Tensor:
    r"""The relative change of the output under a shift of the images by s pixels,

    .. math:: \frac{\|f(T_s x) - f(x)\|}{\|f(x)\|}

    over all images: 0 means invariant. T_s is a circular shift, which is a plain shift for images with an empty margin.

    Args:
        net: called on images; a pooling as ``lambda images: pool(graph, to_nodes(images))``
        images: any images
        shifts: the values of s, for example ``range(5)``
        axis: of the images

    Shapes:
        - images: (B, C, \*size)
        - output: (len(shifts),)

    Example:
        >>> import torch
        >>> from gnnlib.grid import GridPool, adaptive_lattice, lattice, shift_invariance, to_nodes
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
