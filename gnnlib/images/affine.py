"""Random affine augmentation of image graphs: positions and offsets are transformed."""

import math

import torch
from torch import Tensor

from gnnlib._utils.calls import names_checked
from gnnlib.graph import GraphLike, graph_index, takes_graph
from gnnlib.graph._check import check_graph
from gnnlib.nn.readout import readout_mean

__all__ = ["random_affine"]


@names_checked()
@takes_graph()
def random_affine(
    graph: GraphLike,
    degrees: float = 0.0,
    translate: float = 0.0,
    scale: tuple[float, float] = (1.0, 1.0),
    shear: float = 0.0,
    generator: torch.Generator | None = None,
    *,
    flip: float = 0.0,
) -> GraphLike:
    r"""Data augmentation: a random affine map for each graph of a batch.

    .. math:: p \leftarrow c + M (p - c) + t, \qquad o_{uv} \leftarrow M o_{uv}, \qquad
        M = s \begin{pmatrix} \cos\varphi & -\sin\varphi \\ \sin\varphi & \cos\varphi \end{pmatrix}
        \begin{pmatrix} 1 & h \\ 0 & \pm 1 \end{pmatrix}

    c is the mean of the graph's positions. As torchvision's ``RandomAffine`` for images, but no pixel leaves the image.

    Args:
        graph: with ``ndata["pos"]`` in pixels (row, column), optionally with ``edata["offset"]`` and
            ``edata["distance"]``
        degrees: the angle is drawn from -degrees to degrees
        translate: pixels; each of both shifts is drawn from -translate to translate
        scale: the factor s is drawn from this range
        shear: h is drawn from -shear to shear
        flip: the probability of a horizontal flip (the sign -1), as of torchvision's ``RandomHorizontalFlip``

    Returns:
        The same nodes and edges with new positions, offsets and distances. Other features, including Gaussian weights,
        are those of the original image.

    Raises:
        ValueError: if the positions are not two-dimensional, or a range is empty.
        TypeError: if the graph has several edge types.

    Example:
        >>> from gnnlib.images import pixel_graph, random_affine
        >>> augmented = random_affine(pixel_graph((2, 2)), degrees=180.0)
        >>> [round(x, 3) for x in augmented.ndata["pos"].mean(0).tolist()], augmented.num_edges()
        ([0.5, 0.5], 16)
    """
    check_graph("random_affine", graph)
    pos = graph.ndata.get("pos")
    if pos is None or pos.dim() != 2 or pos.shape[1] != 2:
        raise ValueError(f"expected positions (N, 2), got {None if pos is None else tuple(pos.shape)}")
    if degrees < 0 or translate < 0 or shear < 0 or not 0 < scale[0] <= scale[1]:
        raise ValueError(
            f"expected degrees, translate and shear of 0 or more and a rising range of scale above 0, "
            f"got {degrees}, {translate}, {shear} and {scale}"
        )
    if not 0 <= flip <= 1:
        raise ValueError(f"expected flip, a probability from 0 to 1, got {flip}")
    batch_size = graph.batch_size
    angle, size, slant = torch.rand(3, batch_size, generator=generator).to(pos)
    shift = translate * (2 * torch.rand(batch_size, 2, generator=generator).to(pos) - 1)
    angle, slant = math.radians(degrees) * (2 * angle - 1), shear * (2 * slant - 1)
    size = scale[0] + (scale[1] - scale[0]) * size
    cos, sin = size * angle.cos(), size * angle.sin()
    matrix = torch.stack([cos, cos * slant - sin, sin, sin * slant + cos], -1).view(batch_size, 2, 2)
    if flip:
        matrix[:, :, 1] *= torch.where(torch.rand(batch_size, 1, generator=generator) < flip, -1, 1).to(pos)

    augmented = graph.local_var()
    nodes, centre = graph_index(graph, graph.batch_num_nodes()), readout_mean(graph, pos)
    augmented.ndata["pos"] = (centre + shift)[nodes] + _transform(matrix, nodes, pos - centre[nodes])
    if "offset" in graph.edata:
        augmented.edata["offset"] = _transform(
            matrix, graph_index(graph, graph.batch_num_edges()), graph.edata["offset"]
        )
        if "distance" in graph.edata:
            augmented.edata["distance"] = augmented.edata["offset"].norm(dim=1)
    return augmented


def _transform(matrix: Tensor, index: Tensor, vectors: Tensor) -> Tensor:
    """The product of the matrix of its graph with each vector."""
    return (matrix[index] * vectors.unsqueeze(1)).sum(-1)
