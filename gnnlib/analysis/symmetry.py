"""Errors of symmetry as numbers: translation, rotation and permutation equivariance (Cohen and Welling 2016, arXiv
1602.07576), stability to deformations (Mallat 2012, arXiv 1101.2286), distances within and between classes.

All errors are relative, in the Frobenius norm over everything that is compared. Models are called as they are and
without gradients: set one with dropout or batch normalisation to evaluation mode first.
"""

import math
from collections.abc import Callable, Sequence
from itertools import chain

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from gnnlib._utils.calls import names_checked
from gnnlib.graph import GraphLike, edge_endpoints, new_graph, takes_graph
from gnnlib.graph._check import check_one_node_set

__all__ = [
    "class_distances",
    "deformation_distance",
    "permutation_error",
    "random_displacement",
    "relabel",
    "rotation_error",
    "shift",
    "node_permutation",
    "translation_error",
    "warp",
]


@names_checked()
@torch.no_grad()
def translation_error(
    model: Callable[[Tensor], Tensor],
    images: Tensor,
    shifts: Sequence[int],
    *,
    margin: int | None = None,
    stride: int = 1,
) -> Tensor:
    r"""The error of translation equivariance (Cohen and Welling 2016, arXiv 1602.07576, equation 1), or of invariance,
    if the model returns a vector per image.

    .. math:: \frac{\|f(T_s x) - T_s f(x)\|}{\|T_s f(x)\|}, \qquad \frac{\|f(T_s x) - f(x)\|}{\|f(x)\|}

    over all images and both directions along each axis.

    Args:
        model: called on images; for layers on a graph of the grid:
            ``lambda images: to_images(net(graph, to_nodes(images)), size)``
        images: of any number of axes
        shifts: distances s in pixels
        margin: None: images are shifted cyclically. Otherwise zeros are shifted in, and only outputs are compared that
            are at least ``margin`` cells away from the border before and after the shift
        stride: pixels between outputs

    Shapes:
        - images: (B, C, \*size)
        - output of the model: (B, F, \*out_size) or (B, F)
        - output: (len(shifts),), float64

    Returns:
        the error for each shift

    Raises:
        ValueError: for shifts that are not multiples of the stride, outputs of another shape, or a margin without
            outputs to compare

    Example:
        >>> import torch
        >>> from gnnlib.analysis import translation_error
        >>> cyclic = torch.nn.Conv2d(1, 2, 3, padding=1, padding_mode="circular").double()
        >>> images = torch.rand(4, 1, 8, 8, dtype=torch.float64)
        >>> bool((translation_error(cyclic, images, [1, 2]) < 1e-12).all())
        True
        >>> bool((translation_error(torch.nn.Conv2d(1, 2, 3, padding=1).double(), images, [1, 2]) > 0.01).all())
        True
    """
    if any(s % stride for s in shifts):
        raise ValueError(f"shifts: expected multiples of the stride {stride}, got {list(shifts)}")
    y, size = model(images), images.shape[2:]
    if y.dim() not in (2, images.dim()) or len(y) != len(images):
        raise ValueError(
            f"expected outputs (B, F) or (B, F, *out_size) of {len(images)} images with {len(size)} axes, "
            f"got {tuple(y.shape)}"
        )

    def error(s: int) -> float:
        pairs = []
        for axis in range(len(size)):
            for step in (s, -s):
                output, expected = model(shift(images, step, axis, wrap=margin is None)), y
                if y.dim() > 2:
                    expected = shift(y, step // stride, axis)
                    if margin is not None:
                        output, expected = (_crop(t, margin, axis, s // stride) for t in (output, expected))
                pairs.append((output.flatten(), expected.flatten()))
        return _relative(*map(torch.cat, zip(*pairs)))

    return torch.tensor([error(abs(s)) for s in shifts], dtype=torch.float64)


def shift(images: Tensor, step: int, axis: int, *, wrap: bool = True) -> Tensor:
    """Images shifted by ``step`` cells along an axis.

    Args:
        images: of any number of axes
        step: number of cells, positive or negative
        axis: 0 for the first axis of size
        wrap: shift cyclically; otherwise zeros are shifted in

    Shapes:
        - images: (B, C, \\*size)
        - output: (B, C, \\*size)

    Returns:
        the shifted images

    Example:
        >>> import torch
        >>> from gnnlib.analysis.symmetry import shift
        >>> row = torch.tensor([[[1, 2, 3]]])
        >>> shift(row, 1, 0).tolist(), shift(row, -1, 0, wrap=False).tolist()
        ([[[3, 1, 2]]], [[[2, 3, 0]]])
    """
    shifted = images.roll(step, 2 + axis)
    if not wrap and step:
        length = min(abs(step), shifted.shape[2 + axis])
        shifted.narrow(2 + axis, 0 if step > 0 else shifted.shape[2 + axis] - length, length).zero_()
    return shifted


def _crop(y: Tensor, margin: int, shift_axis: int, step: int) -> Tensor:
    """The outputs without ``margin`` cells at each border, and without ``step`` more along one axis."""
    for axis, n in enumerate(y.shape[2:]):
        cut = margin + (step if axis == shift_axis else 0)
        if n <= 2 * cut:
            raise ValueError(f"margin: expected outputs of more than {2 * cut} cells along axis {axis}, got {n}")
        y = y.narrow(2 + axis, cut, n - 2 * cut)
    return y


@names_checked()
@torch.no_grad()
def rotation_error(
    model: Callable[[Tensor], Tensor],
    signals: Callable[[Tensor], Tensor],
    rotations: Tensor,
    *,
    rotate_output: Callable[[Tensor, Tensor], Tensor] | None = None,
) -> Tensor:
    r"""The error of rotation equivariance, or of invariance (Cohen et al. 2018, arXiv 1801.10130, section 5.1, whose
    error is a ratio of standard deviations).

    .. math:: \frac{\|f(R x) - R f(x)\|}{\|R f(x)\|}, \qquad \frac{\|f(R x) - f(x)\|}{\|f(x)\|}

    over all signals.

    Args:
        model: called on signals
        signals: called on R, returns R x: ``lambda R: project(images, points, R)`` of `gnnlib.images`
        rotations: R
        rotate_output: called on the output y and R, returns R y; None: the output should be invariant

    Shapes:
        - rotations: (K, 3, 3)
        - output: (K,), float64

    Returns:
        the error for each rotation

    Example:
        >>> import torch
        >>> from gnnlib.analysis import rotation_error
        >>> from gnnlib.images.sphere import icosahedral_rotations, project, sphere_graph
        >>> images, points = torch.rand(2, 1, 8, 8, dtype=torch.float64), sphere_graph(2).ndata["pos"].double()
        >>> largest = rotation_error(lambda x: x.amax(0), lambda R: project(images, points, R), icosahedral_rotations())
        >>> bool(largest.max() < 1e-6)
        True
    """
    y = model(signals(torch.eye(3, dtype=rotations.dtype)))
    return torch.tensor(
        [_relative(model(signals(R)), y if rotate_output is None else rotate_output(y, R)) for R in rotations],
        dtype=torch.float64,
    )


@names_checked()
@torch.no_grad()
@takes_graph()
def permutation_error(
    model: Callable[[GraphLike, Tensor], Tensor],
    graph: GraphLike,
    x: Tensor,
    *,
    seed: int = 0,
    per_node: bool = True,
) -> float:
    r"""The error of permutation equivariance, or, for outputs per graph, of invariance (Maron et al. 2019, arXiv
    1812.09902, section 1): nodes are permuted, with their features, edges and all data.

    .. math:: \frac{\|f(P G, P x) - P f(G, x)\|}{\|f(G, x)\|}, \qquad \frac{\|f(P G, P x) - f(G, x)\|}{\|f(G, x)\|}

    Args:
        model: called as ``model(graph, x)``; ndata and edata are permuted too
        graph: with one node set; in a batch, nodes are permuted within their graphs
        x: features
        seed: of the permutation
        per_node: whether the output has a row per node; otherwise it should be invariant

    Shapes:
        - x: (N, \*, F)
        - output of the model: (N, \*), or any shape with ``per_node=False``

    Returns:
        the error

    Raises:
        ValueError: for a graph with two node sets, x of another length, or outputs without a row per node

    Example:
        >>> import torch
        >>> from gnnlib import GCNConv
        >>> from gnnlib.analysis import permutation_error
        >>> import dgl
        >>> g, x = dgl.graph(([0, 1, 2], [1, 2, 0])), torch.eye(3, dtype=torch.float64)
        >>> permutation_error(GCNConv(3, 2).double(), g, x) < 1e-12
        True
        >>> permutation_error(lambda g, x: x.cumsum(0), g, x, seed=1) > 0.1
        True
    """
    if len(x) != graph.num_nodes():
        raise ValueError(f"x: expected {graph.num_nodes()} rows, one for each node, got shape {tuple(x.shape)}")
    order = node_permutation(graph, seed)
    y, output = model(graph, x), model(relabel(graph, order), x[order.to(x.device)])
    if per_node and len(y) != len(x):
        raise ValueError(f"expected {len(x)} outputs, one for each node, got shape {tuple(y.shape)}; or per_node=False")
    return _relative(output, y[order.to(y.device)] if per_node else y)


@takes_graph()
def node_permutation(graph: GraphLike, seed: int = 0) -> Tensor:
    """A random permutation of the nodes within the graphs of a batch.

    Args:
        graph: with one node set
        seed: of the random numbers

    Returns:
        (N,), int64: the old id of each new node

    Example:
        >>> from gnnlib.analysis.symmetry import node_permutation
        >>> import dgl
        >>> order = node_permutation(dgl.batch([dgl.graph(([0], [1])), dgl.graph(([0], [2]))]))
        >>> order[:2].sort().values.tolist(), order[2:].sort().values.tolist()
        ([0, 1], [2, 3, 4])
    """
    sizes = graph.batch_num_nodes().cpu()
    graph_ids = torch.repeat_interleave(torch.arange(len(sizes)), sizes)
    order = torch.randperm(len(graph_ids), generator=torch.Generator().manual_seed(seed))
    return order[torch.argsort(graph_ids[order], stable=True)]


@takes_graph("order")
def relabel(graph: GraphLike, order: Tensor) -> GraphLike:
    """The graph with its nodes in another order: node i is node ``order[i]`` of the given graph.

    Edge ids, node and edge data and batch sizes are kept.

    Args:
        graph: with one node set
        order: a permutation of the nodes, (N,), within the graphs of a batch

    Returns:
        the graph

    Raises:
        ValueError: for a graph with two node sets, or an order that is not a permutation

    Example:
        >>> import torch
        >>> from gnnlib.analysis.symmetry import relabel
        >>> import dgl
        >>> g = dgl.graph(([0, 1], [1, 2]))
        >>> g.ndata["pos"] = torch.tensor([[0.0], [1.0], [2.0]])
        >>> other = relabel(g, torch.tensor([2, 0, 1]))
        >>> other.edges()[0].tolist(), other.edges()[1].tolist(), other.ndata["pos"].flatten().tolist()
        ([1, 2], [2, 0], [2.0, 0.0, 1.0])
    """
    check_one_node_set("relabel", graph)
    order = order.to(graph.device).long()
    if not torch.equal(order.sort().values, torch.arange(graph.num_nodes(), device=graph.device)):
        raise ValueError(f"order: expected a permutation of {graph.num_nodes()} nodes, got shape {tuple(order.shape)}")
    new_ids = order.argsort()
    src, dst = (new_ids[nodes.long()] for nodes in edge_endpoints(graph))
    other = new_graph(src, dst, graph.num_nodes(), like=graph)
    other.ndata.update({name: value[order.to(value.device)] for name, value in graph.ndata.items()})
    other.edata.update(dict(graph.edata))
    other.set_batch_num_nodes(graph.batch_num_nodes())
    other.set_batch_num_edges(graph.batch_num_edges())
    return other


@names_checked()
@torch.no_grad()
def deformation_distance(
    features: Callable[[Tensor], Tensor],
    images: Tensor,
    sizes: Sequence[float],
    *,
    smoothness: float | None = None,
    seed: int = 0,
) -> Tensor:
    r"""The change of features under smooth deformations (Mallat 2012, arXiv 1101.2286, equation 2.4; Bruna and Mallat
    2013, arXiv 1203.1513, equation 3). For stable features it is proportional to the gradient of the deformation.

    .. math:: \frac{\|\Phi(x_\tau) - \Phi(x)\|}{\|\Phi(x)\|}, \qquad x_\tau(p) = x(p - \tau(p)), \qquad
              \sup_p \|\nabla \tau(p)\| = \mathrm{size}

    Args:
        features: called on images
        images: of any number of axes
        sizes: largest gradients of the displacement, from 0 to below 1; all scale the same fields, one per image
        smoothness: as for `random_displacement`
        seed: of the displacements

    Shapes:
        - images: (B, C, \*size)
        - output of ``features``: (B, \*)
        - output: (len(sizes),), float64

    Returns:
        the change for each size

    Raises:
        ValueError: for a size outside 0 to 1

    Example:
        >>> import torch
        >>> from gnnlib.analysis import deformation_distance
        >>> images = torch.rand(3, 1, 8, 8)
        >>> deformation_distance(lambda images: images.new_ones(len(images), 5), images, [0.0, 0.5]).tolist()
        [0.0, 0.0]
        >>> small, large = deformation_distance(lambda images: images, images, [0.1, 0.5])
        >>> bool(0 < small < large)
        True
    """
    if not all(0 <= size < 1 for size in sizes):
        raise ValueError(f"sizes: expected numbers from 0 to below 1, got {list(sizes)}")
    rng = np.random.default_rng(seed)
    fields = np.stack([random_displacement(images.shape[2:], 1.0, rng, smoothness=smoothness) for _ in images])
    reference = features(images)
    return torch.tensor([_relative(features(warp(images, size * fields)), reference) for size in sizes]).double()


def random_displacement(
    shape: Sequence[int], gradient: float, rng: np.random.Generator, *, smoothness: float | None = None
) -> np.ndarray:
    """A smooth random displacement field: blurred Gaussian noise without its mean, scaled to a largest gradient.

    Args:
        shape: of the image
        gradient: largest spectral norm of the field's Jacobian matrix, by central differences
        rng: of the noise
        smoothness: standard deviation of the blur in pixels; default: a quarter of the shortest side

    Returns:
        (d, \\*shape), in pixels, in the order of the axes

    Raises:
        ValueError: for an axis of a single pixel, along which there is no gradient

    Example:
        >>> import numpy as np
        >>> from gnnlib.analysis.symmetry import random_displacement
        >>> random_displacement((8, 8), 0.2, np.random.default_rng(0)).shape
        (2, 8, 8)
    """
    if min(shape) < 2:
        raise ValueError(f"shape: expected at least two pixels along each axis, got {tuple(shape)}")
    blur = min(shape) / 4 if smoothness is None else smoothness
    field = np.stack([ndimage.gaussian_filter(rng.standard_normal(shape), blur) for _ in shape])
    field -= field.mean(tuple(range(1, field.ndim)), keepdims=True)
    slopes = np.stack([[np.gradient(part, axis=axis) for axis in range(len(shape))] for part in field])
    steepest = np.linalg.norm(np.moveaxis(slopes, (0, 1), (-2, -1)), 2, axis=(-2, -1)).max()
    return field * (gradient / steepest)


def warp(images: Tensor, displacement: np.ndarray) -> Tensor:
    """Images warped by displacement fields, x(p - tau(p)), with linear interpolation and the nearest pixel outside.

    Args:
        images: of any number of axes
        displacement: tau, in pixels, one field per image

    Shapes:
        - images: (B, C, \\*size)
        - displacement: (B, d, \\*size)
        - output: (B, C, \\*size)

    Returns:
        the warped images

    Example:
        >>> import numpy as np
        >>> import torch
        >>> from gnnlib.analysis.symmetry import warp
        >>> warp(torch.tensor([[[1.0, 2.0, 3.0]]]), np.full((1, 1, 3), 0.5)).tolist()
        [[[1.0, 1.5, 2.5]]]
    """
    positions = np.indices(images.shape[2:]) - displacement
    pixels = images.detach().cpu().numpy()
    warped = [
        [ndimage.map_coordinates(channel, coordinates, order=1, mode="nearest") for channel in image]
        for image, coordinates in zip(pixels, positions)
    ]
    return torch.from_numpy(np.stack(list(chain(*warped))).reshape(pixels.shape)).to(images)


@names_checked()
def class_distances(features: Tensor, labels: Tensor) -> float:
    r"""The mean distance within classes divided by the mean distance between classes, over all pairs of samples (Bruna
    and Mallat 2013, arXiv 1203.1513, section 1; the idea is Fisher's, 1936).

    .. math:: \frac{\mathrm{mean}_{i < j,\, y_i = y_j} \|\phi_i - \phi_j\|}
                   {\mathrm{mean}_{i < j,\, y_i \ne y_j} \|\phi_i - \phi_j\|}

    It is 1 if classes are not separated, and 0 if each is a single point.

    Args:
        features: of the samples
        labels: their classes

    Shapes:
        - features: (S, \*)
        - labels: (S,)

    Returns:
        the ratio

    Raises:
        ValueError: for labels of another number, or without a pair of one class and a pair of two

    Example:
        >>> import torch
        >>> from gnnlib.analysis import class_distances
        >>> class_distances(torch.tensor([[0.0], [1.0], [10.0], [11.0]]), torch.tensor([0, 0, 1, 1]))
        0.1
    """
    if labels.shape != features.shape[:1]:
        raise ValueError(f"labels: expected shape {tuple(features.shape[:1])}, got {tuple(labels.shape)}")
    first, second = torch.triu_indices(len(labels), len(labels), 1, device=features.device)
    distance = torch.pdist(features.detach().flatten(1).double())
    same = (labels[first] == labels[second]).to(distance.device)
    if same.all() or not same.any():
        raise ValueError(f"labels: expected pairs of one class and of two, got {labels.unique().tolist()[:10]}")
    return (distance[same].mean() / distance[~same].mean()).item()


def _relative(output: Tensor, expected: Tensor) -> float:
    """The relative error: 0 for equal tensors, infinite if only the expected one is 0."""
    difference, size = (output - expected).double().norm().item(), expected.double().norm().item()
    return difference / size if size else math.inf if difference else 0.0
