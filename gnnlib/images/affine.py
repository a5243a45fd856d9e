"""Images turned, enlarged and moved after they have become graphs: positions and offsets are all that changes."""

import math

import torch
from torch import Tensor

from gnnlib._platform.dgl import dgl
from gnnlib.graph import graph_index
from gnnlib.nn.readout import readout_mean

__all__ = ["random_affine"]


def random_affine(
    graph: dgl.DGLGraph,
    degrees: float = 0.0,
    translate: float = 0.0,
    scale: tuple[float, float] = (1.0, 1.0),
    shear: float = 0.0,
    generator: torch.Generator | None = None,
) -> dgl.DGLGraph:
    r"""Each graph of a batch under an affine map of its own, for training on more images than there are.

    .. math:: p \leftarrow c + M (p - c) + t, \qquad o_{uv} \leftarrow M o_{uv}, \qquad
        M = s \begin{pmatrix} \cos\varphi & -\sin\varphi \\ \sin\varphi & \cos\varphi \end{pmatrix}
        \begin{pmatrix} 1 & h \\ 0 & 1 \end{pmatrix}

    c is the mean of the graph's positions. What torchvision's ``RandomAffine`` does to images, and no pixel is lost.

    Args:
        graph: with ``ndata["pos"]`` in pixels (row, column), and perhaps ``edata["offset"]`` and ``edata["distance"]``
        degrees: the angle is drawn from -degrees to degrees
        translate: pixels; each of both shifts is drawn from -translate to translate
        scale: the factor s is drawn from this range
        shear: h is drawn from -shear to shear

    Returns the same nodes and edges with new positions, offsets and distances; other features, Gaussian weights too,
    are those of the image as it was.

    Raises: ValueError for positions that are not two-dimensional, or a range that is none.

    >>> from gnnlib.images import pixel_graph
    >>> turned = random_affine(pixel_graph((2, 2)), degrees=180.0)
    >>> [round(x, 3) for x in turned.ndata["pos"].mean(0).tolist()], turned.num_edges()
    ([0.5, 0.5], 16)
    """
    pos = graph.ndata.get("pos")
    if pos is None or pos.dim() != 2 or pos.shape[1] != 2:
        raise ValueError(f"expected positions (N, 2), got {None if pos is None else tuple(pos.shape)}")
    if degrees < 0 or translate < 0 or shear < 0 or not 0 < scale[0] <= scale[1]:
        raise ValueError(
            f"expected degrees, translate and shear of 0 or more and a rising range of scale above 0, "
            f"got {degrees}, {translate}, {shear} and {scale}"
        )
    number = graph.batch_size
    angle, size, slant = torch.rand(3, number, generator=generator).to(pos)
    shift = translate * (2 * torch.rand(number, 2, generator=generator).to(pos) - 1)
    angle, slant = math.radians(degrees) * (2 * angle - 1), shear * (2 * slant - 1)
    size = scale[0] + (scale[1] - scale[0]) * size
    cos, sin = size * angle.cos(), size * angle.sin()
    matrix = torch.stack([cos, cos * slant - sin, sin, sin * slant + cos], -1).view(number, 2, 2)

    moved = graph.local_var()
    nodes, centre = graph_index(graph, graph.batch_num_nodes()), readout_mean(graph, pos)
    moved.ndata["pos"] = (centre + shift)[nodes] + _times(matrix, nodes, pos - centre[nodes])
    if "offset" in graph.edata:
        moved.edata["offset"] = _times(matrix, graph_index(graph, graph.batch_num_edges()), graph.edata["offset"])
        if "distance" in graph.edata:
            moved.edata["distance"] = moved.edata["offset"].norm(dim=1)
    return moved


def _times(matrix: Tensor, owner: Tensor, vectors: Tensor) -> Tensor:
    """Each vector under the matrix of its graph."""
    return (matrix[owner] * vectors.unsqueeze(1)).sum(-1)
