"""How far a model is from a symmetry, as numbers: shifted images, rotated signals, relabelled nodes, deformed images,
classes apart.

All errors are relative, in the Frobenius norm over all that is compared. Models are called as they are and without
gradients: put one with dropout or batch normalisation into evaluation mode first.
"""

import math
from collections.abc import Callable, Sequence
from itertools import chain

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from gnnlib._platform.dgl import dgl
from gnnlib.graph import edge_endpoints

__all__ = [
    "class_distances",
    "deformation_distance",
    "permutation_error",
    "random_displacement",
    "relabel",
    "rotation_error",
    "shift",
    "shuffled_nodes",
    "translation_error",
    "warp",
]


@torch.no_grad()
def translation_error(
    model: Callable[[Tensor], Tensor],
    images: Tensor,
    shifts: Sequence[int],
    margin: int | None = None,
    stride: int = 1,
) -> Tensor:
    r"""How far a model is from translation equivariance (Cohen and Welling 2016, arXiv 1602.07576, equation 1), or,
    where it returns a vector per image, from invariance.

    .. math:: \frac{\|f(T_s x) - T_s f(x)\|}{\|T_s f(x)\|}, \qquad \frac{\|f(T_s x) - f(x)\|}{\|f(x)\|}

    over all images and both directions along each axis.

    Args:
        model: called on images. Of layers on a graph of the grid,
            ``lambda images: to_images(net(graph, to_nodes(images)), size)``
        shifts: distances s in pixels
        margin: None: the image is a torus, what leaves it comes in on the other side. Else zeros come in, and those
            outputs are compared whose windows of so many cells each way are inside before and after the shift
        stride: pixels from one output to the next

    Shapes: images (B, C, \*size); the model returns (B, F, \*out_size) or (B, F); returns (len(shifts),) float64.

    Raises: ValueError for shifts that are not multiples of the stride, outputs of another form, or a margin that leaves
    nothing to compare.

    >>> wrapped = torch.nn.Conv2d(1, 2, 3, padding=1, padding_mode="circular").double()
    >>> images = torch.rand(4, 1, 8, 8, dtype=torch.float64)
    >>> bool((translation_error(wrapped, images, [1, 2]) < 1e-12).all())
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
                moved, wanted = model(shift(images, step, axis, wrap=margin is None)), y
                if y.dim() > 2:
                    wanted = shift(y, step // stride, axis)
                    if margin is not None:
                        moved, wanted = (_inside(t, margin, axis, s // stride) for t in (moved, wanted))
                pairs.append((moved.flatten(), wanted.flatten()))
        return _relative(*map(torch.cat, zip(*pairs)))

    return torch.tensor([error(abs(s)) for s in shifts], dtype=torch.float64)


def shift(images: Tensor, step: int, axis: int, wrap: bool = True) -> Tensor:
    """Images moved by ``step`` cells along an axis; what leaves comes in on the other side, or zeros do.

    Shapes: images (B, C, \\*size), returns the same; axis 0 is the first of size.

    >>> row = torch.tensor([[[1, 2, 3]]])
    >>> shift(row, 1, 0).tolist(), shift(row, -1, 0, wrap=False).tolist()
    ([[[3, 1, 2]]], [[[2, 3, 0]]])
    """
    moved = images.roll(step, 2 + axis)
    if not wrap and step:
        length = min(abs(step), moved.shape[2 + axis])
        moved.narrow(2 + axis, 0 if step > 0 else moved.shape[2 + axis] - length, length).zero_()
    return moved


def _inside(y: Tensor, margin: int, along: int, step: int) -> Tensor:
    """Without ``margin`` cells at each border, and without ``step`` more along one axis."""
    for axis, n in enumerate(y.shape[2:]):
        cut = margin + (step if axis == along else 0)
        if n <= 2 * cut:
            raise ValueError(f"margin: expected outputs of more than {2 * cut} cells along axis {axis}, got {n}")
        y = y.narrow(2 + axis, cut, n - 2 * cut)
    return y


@torch.no_grad()
def rotation_error(
    model: Callable[[Tensor], Tensor],
    signals: Callable[[Tensor], Tensor],
    rotations: Tensor,
    turn: Callable[[Tensor, Tensor], Tensor] | None = None,
) -> Tensor:
    r"""How far a model is from rotation equivariance, or, of outputs that have no place, from invariance (Cohen et al.
    2018, arXiv 1801.10130, section 5.1, whose error is one of standard deviations).

    .. math:: \frac{\|f(R x) - R f(x)\|}{\|R f(x)\|}, \qquad \frac{\|f(R x) - f(x)\|}{\|f(x)\|}

    over all signals.

    Args:
        model: called on signals
        signals: makes R x of R: ``lambda R: project(images, points, R)`` of `gnnlib.images.sphere`
        turn: makes R y of y and R; None: outputs should stay

    Shapes: rotations (K, 3, 3); returns (K,) float64.

    >>> from gnnlib.images import icosahedral_rotations, project, sphere_graph
    >>> images, points = torch.rand(2, 1, 8, 8, dtype=torch.float64), sphere_graph(2).ndata["pos"].double()
    >>> largest = rotation_error(lambda x: x.amax(0), lambda R: project(images, points, R), icosahedral_rotations())
    >>> bool(largest.max() < 1e-6)
    True
    """
    y = model(signals(torch.eye(3, dtype=rotations.dtype)))
    return torch.tensor(
        [_relative(model(signals(R)), y if turn is None else turn(y, R)) for R in rotations], dtype=torch.float64
    )


@torch.no_grad()
def permutation_error(
    model: Callable[[dgl.DGLGraph, Tensor], Tensor],
    graph: dgl.DGLGraph,
    x: Tensor,
    seed: int = 0,
    per_node: bool = True,
) -> float:
    r"""How far a model is from permutation equivariance, or, of outputs per graph, invariance (Maron et al. 2019,
    arXiv 1812.09902, section 1): nodes get other numbers, with their features, edges and all that is stored on them.

    .. math:: \frac{\|f(P G, P x) - P f(G, x)\|}{\|f(G, x)\|}, \qquad \frac{\|f(P G, P x) - f(G, x)\|}{\|f(G, x)\|}

    Args:
        model: called as ``model(graph, x)``; what it reads of ndata and edata is there
        graph: with one node set; in a batch, nodes are permuted within their graphs
        per_node: False: the outputs are not one per node and should not change

    Shapes: x (N, \*, F); the model returns (N, \*) or, with ``per_node`` False, anything.

    Raises: ValueError for a graph with two node sets, x of another length, or outputs that are not one per node.

    >>> from gnnlib import GCNConv
    >>> g, x = dgl.graph(([0, 1, 2], [1, 2, 0])), torch.eye(3, dtype=torch.float64)
    >>> permutation_error(GCNConv(3, 2).double(), g, x) < 1e-12
    True
    >>> permutation_error(lambda g, x: x.cumsum(0), g, x, seed=1) > 0.1
    True
    """
    if len(x) != graph.num_nodes():
        raise ValueError(f"x: expected {graph.num_nodes()} rows, one for each node, got shape {tuple(x.shape)}")
    order = shuffled_nodes(graph, seed)
    y, moved = model(graph, x), model(relabel(graph, order), x[order.to(x.device)])
    if per_node and len(y) != len(x):
        raise ValueError(f"expected {len(x)} outputs, one for each node, got shape {tuple(y.shape)}; or per_node=False")
    return _relative(moved, y[order.to(y.device)] if per_node else y)


def shuffled_nodes(graph: dgl.DGLGraph, seed: int = 0) -> Tensor:
    """A random order of the nodes, (N,) int64, in which each graph of a batch keeps its place.

    >>> order = shuffled_nodes(dgl.batch([dgl.graph(([0], [1])), dgl.graph(([0], [2]))]))
    >>> order[:2].sort().values.tolist(), order[2:].sort().values.tolist()
    ([0, 1], [2, 3, 4])
    """
    sizes = graph.batch_num_nodes().cpu()
    owner = torch.repeat_interleave(torch.arange(len(sizes)), sizes)
    draw = torch.randperm(len(owner), generator=torch.Generator().manual_seed(seed))
    return draw[torch.argsort(owner[draw], stable=True)]


def relabel(graph: dgl.DGLGraph, order: Tensor) -> dgl.DGLGraph:
    """The same graph with its nodes in another order: node i is node ``order[i]`` of before.

    Edges keep their numbers, and all frames are carried along; batch sizes are kept.

    Args:
        order: a permutation of the nodes, (N,), within the graphs of a batch

    Raises: ValueError for graphs with two node sets, or what is no permutation.

    >>> g = dgl.graph(([0, 1], [1, 2]))
    >>> g.ndata["pos"] = torch.tensor([[0.0], [1.0], [2.0]])
    >>> other = relabel(g, torch.tensor([2, 0, 1]))
    >>> other.edges()[0].tolist(), other.edges()[1].tolist(), other.ndata["pos"].flatten().tolist()
    ([1, 2], [2, 0], [2.0, 0.0, 1.0])
    """
    if not graph.is_homogeneous:
        raise ValueError(f"expected a graph with one node set, got {graph.canonical_etypes}")
    order = order.to(graph.device).long()
    if not torch.equal(order.sort().values, torch.arange(graph.num_nodes(), device=graph.device)):
        raise ValueError(f"order: expected a permutation of {graph.num_nodes()} nodes, got shape {tuple(order.shape)}")
    place = order.argsort()
    ends = (place[end.long()] for end in edge_endpoints(graph))
    other = dgl.graph(tuple(ends), num_nodes=graph.num_nodes(), idtype=graph.idtype)
    other.ndata.update({name: value[order.to(value.device)] for name, value in graph.ndata.items()})
    other.edata.update(dict(graph.edata))
    other.set_batch_num_nodes(graph.batch_num_nodes())
    other.set_batch_num_edges(graph.batch_num_edges())
    return other


@torch.no_grad()
def deformation_distance(
    features: Callable[[Tensor], Tensor],
    images: Tensor,
    sizes: Sequence[float],
    smoothness: float | None = None,
    seed: int = 0,
) -> Tensor:
    r"""How far features move when images are deformed smoothly (Mallat 2012, arXiv 1101.2286, equation 2.4; Bruna and
    Mallat 2013, arXiv 1203.1513, equation 3): stable ones move in proportion to the deformation's gradient.

    .. math:: \frac{\|\Phi(x_\tau) - \Phi(x)\|}{\|\Phi(x)\|}, \qquad x_\tau(p) = x(p - \tau(p)), \qquad
              \sup_p \|\nabla \tau(p)\| = \mathrm{size}

    Args:
        features: called on images (B, C, \*size), returns (B, \*)
        sizes: largest gradients of the displacement, from 0 to below 1; all scale the same fields, one for each image
        smoothness: as in :func:`random_displacement`

    Shapes: returns (len(sizes),) float64.

    Raises: ValueError for a size outside 0 to 1.

    >>> images = torch.rand(3, 1, 8, 8)
    >>> deformation_distance(lambda images: images.new_ones(len(images), 5), images, [0.0, 0.5]).tolist()
    [0.0, 0.0]
    >>> near, far = deformation_distance(lambda images: images, images, [0.1, 0.5])
    >>> bool(0 < near < far)
    True
    """
    if not all(0 <= size < 1 for size in sizes):
        raise ValueError(f"sizes: expected numbers from 0 to below 1, got {list(sizes)}")
    rng = np.random.default_rng(seed)
    fields = np.stack([random_displacement(images.shape[2:], 1.0, rng, smoothness) for _ in images])
    still = features(images)
    return torch.tensor([_relative(features(warp(images, size * fields)), still) for size in sizes]).double()


def random_displacement(
    shape: Sequence[int], gradient: float, rng: np.random.Generator, smoothness: float | None = None
) -> np.ndarray:
    """A smooth random displacement field: Gaussian noise, blurred, without its mean, scaled to a largest gradient.

    Args:
        shape: of the image
        gradient: largest spectral norm of the field's Jacobian matrix, by central differences
        smoothness: standard deviation of the blur in pixels; default: a quarter of the shortest side

    Shapes: returns (d, \\*shape), in pixels in the order of the axes.

    Raises: ValueError for an axis of a single pixel, along which nothing has a gradient.

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
    """Each image moved by its own displacement: x(p - tau(p)), interpolated linearly, the border continued.

    Shapes: images (B, C, \\*size), displacement (B, d, \\*size) in pixels; returns images.

    >>> warp(torch.tensor([[[1.0, 2.0, 3.0]]]), np.full((1, 1, 3), 0.5)).tolist()
    [[[1.0, 1.5, 2.5]]]
    """
    at = np.indices(images.shape[2:]) - displacement
    pixels = images.detach().cpu().numpy()
    moved = [
        [ndimage.map_coordinates(channel, where, order=1, mode="nearest") for channel in image]
        for image, where in zip(pixels, at)
    ]
    return torch.from_numpy(np.stack(list(chain(*moved))).reshape(pixels.shape)).to(images)


def class_distances(features: Tensor, labels: Tensor) -> float:
    r"""The mean distance within classes over the mean distance between them, over all pairs of samples: the
    variability that a representation has kept against the separation (Bruna and Mallat 2013, arXiv 1203.1513,
    section 1; the idea is Fisher's, 1936).

    .. math:: \frac{\mathrm{mean}_{i < j,\, y_i = y_j} \|\phi_i - \phi_j\|}
                   {\mathrm{mean}_{i < j,\, y_i \ne y_j} \|\phi_i - \phi_j\|}

    1: classes are mixed; 0: each is a point.

    Shapes: features (S, \*), labels (S,); memory (S, S).

    Raises: ValueError for a wrong number of labels, or where no pair shares a class or none is of two.

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


def _relative(moved: Tensor, still: Tensor) -> float:
    """0 where nothing moved, infinite where nothing became something."""
    difference, size = ((moved - still).double().norm().item(), still.double().norm().item())
    return difference / size if size else math.inf if difference else 0.0
