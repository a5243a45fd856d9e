"""Signals on the sphere: projection of images, rotations, interpolation and pooling.

The points of a signal are the nodes of :func:`gnnlib.images.sphere_graph`, or the cells of a map
(:func:`equirectangular`); a rotation R takes a signal x to (R x)(p) = x(R^-1 p).
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from scipy.spatial import KDTree
from torch import Tensor

from gnnlib._utils.calls import names_checked
from gnnlib.graph import GraphLike, new_bipartite
from gnnlib.images.points import icosphere, sphere_graph

__all__ = [
    "equirectangular",
    "icosahedral_rotations",
    "project",
    "random_rotations",
    "sphere_interpolation",
    "sphere_pooling",
]


@names_checked()
def project(images: Tensor, points: Tensor, rotation: Tensor | None = None) -> Tensor:
    r"""Stereographic projection of images onto the sphere, followed by a rotation:

    .. math:: x(p) = \mathrm{image}\Big(\sqrt{2}\, \frac{(-q_z,\, q_y)}{1 + q_x}\Big), \qquad q = R^{-1} p

    with rows and columns from -1 to 1, edge to edge. The projection preserves angles. The middle of an image is at
    (1, 0, 0), the first row is up, and its corners are on the great circle that bounds this hemisphere; the other
    hemisphere is 0. Images are interpolated linearly between pixels, and 0 outside.

    Args:
        images: any number of channels
        points: of length 1
        rotation: R, one for all images or one per image; None: no rotation

    Shapes:
        - images: (B, C, rows, columns)
        - points: (n, 3)
        - rotation: (3, 3) or (B, 3, 3)
        - output: (n, B, C), B signals on one graph

    Raises:
        ValueError: if a shape is wrong.

    Example:
        >>> import torch
        >>> from gnnlib.images import project, sphere_graph
        >>> images = torch.rand(5, 1, 8, 8)
        >>> project(images, sphere_graph(2).ndata["pos"]).shape
        torch.Size([162, 5, 1])
    """
    if images.dim() != 4 or points.dim() != 2 or points.shape[1] != 3:
        raise ValueError(
            "expected images (B, C, rows, columns) and points (n, 3), "
            f"got {tuple(images.shape)} and {tuple(points.shape)}"
        )
    q = points.to(images)
    if rotation is not None:
        if rotation.shape not in ((3, 3), (len(images), 3, 3)):
            raise ValueError(f"rotation: expected (3, 3) or ({len(images)}, 3, 3), got {tuple(rotation.shape)}")
        q = q @ rotation.to(images)  # rows: R^-1 p
    near = 1 + q[..., :1]
    coords = math.sqrt(2) * torch.stack([q[..., 1], -q[..., 2]], -1) / near  # columns, then rows
    coords = coords.where(near > 0.5, 2.0)  # outside the image: the opposite point has no projection
    coords = coords.expand(len(images), *coords.shape[-2:]).unsqueeze(1)
    return F.grid_sample(images, coords, align_corners=False).squeeze(2).permute(2, 0, 1).contiguous()


@names_checked()
def equirectangular(size: Sequence[int]) -> Tensor:
    """The equirectangular grid: centres of cells of equal height in latitude and equal width in longitude, row by row,
    north first, with (1, 0, 0) in the middle of the map.

    Shapes:
        - size: (rows, columns)
        - output: (rows columns, 3) float64

    Example:
        >>> from gnnlib.images import equirectangular
        >>> equirectangular((1, 4)).round(decimals=3).tolist()
        [[-0.707, -0.707, 0.0], [0.707, -0.707, 0.0], [0.707, 0.707, 0.0], [-0.707, 0.707, 0.0]]
    """
    rows, columns = size
    down = (torch.arange(rows, dtype=torch.float64) + 0.5) * (torch.pi / rows)
    along = (torch.arange(columns, dtype=torch.float64) + 0.5) * (2 * torch.pi / columns) - torch.pi
    down, along = torch.meshgrid(down, along, indexing="ij")
    points = torch.stack([down.sin() * along.cos(), down.sin() * along.sin(), down.cos()], -1) + 0.0
    return points.flatten(0, 1)


@names_checked()
def random_rotations(num: int, generator: torch.Generator | None = None) -> Tensor:
    """Uniformly distributed rotations: orthogonal factors of Gaussian matrices with the signs of Mezzadri 2007 (arXiv
    math-ph/0609050, section 5), reflections multiplied by -1.

    Shapes:
        - output: (num, 3, 3) float64

    Example:
        >>> import torch
        >>> from gnnlib.images import random_rotations
        >>> rotations = random_rotations(4)
        >>> torch.allclose(rotations @ rotations.mT, torch.eye(3).double())
        True
        >>> torch.linalg.det(rotations).round().tolist()
        [1.0, 1.0, 1.0, 1.0]
    """
    q, r = torch.linalg.qr(torch.randn(num, 3, 3, dtype=torch.float64, generator=generator))
    q = q * r.diagonal(dim1=-2, dim2=-1).sign().unsqueeze(-2)
    return q * torch.linalg.det(q).view(-1, 1, 1)


@names_checked()
def icosahedral_rotations() -> Tensor:
    """The 60 rotational symmetries of the icosahedron, and of every :func:`gnnlib.images.sphere_graph`; the first is
    the identity.

    Shapes:
        - output: (60, 3, 3) float64

    Example:
        >>> import torch
        >>> from gnnlib.images import icosahedral_rotations
        >>> rotations = icosahedral_rotations()
        >>> len(rotations), torch.allclose(rotations[0], torch.eye(3).double())
        (60, True)
    """
    vertices, faces = icosphere(0)
    a, b = (torch.from_numpy(vertices[corners.ravel()]) for corners in (faces, np.roll(faces, -1, axis=1)))  # 60 sides
    frames = torch.stack([a, b, torch.linalg.cross(a, b)], -1)
    return frames @ torch.linalg.inv(frames[0])


@names_checked()
def sphere_interpolation(level: int, points: Tensor) -> GraphLike:
    """The bipartite graph of linear interpolation from the nodes of a sphere to any points on it.

    Every point has in-edges from the corners of its triangle, weighted by its barycentric coordinates.

    ``aggregate(graph, x, graph.edata["weight"])`` is the signal at the points. With ``points @ R`` of the same sphere,
    that is R^-1 p, it is the rotated signal R x; an icosahedral rotation needs no interpolation.

    Shapes:
        - points: (n, 3), of any length but 0
        - output: 3 n edges from node type "in" to "out", with ``pos`` at both, and ``edata["weight"]`` (3 n,) float64,
          which add up to 1 at each point

    Raises:
        ValueError: if the points have another shape, or one of them is (0, 0, 0).

    Example:
        >>> import torch
        >>> from gnnlib.images import sphere_interpolation
        >>> graph = sphere_interpolation(1, torch.tensor([[0.0, 0.0, 2.0]]))
        >>> graph.num_nodes("in"), graph.edata["weight"].sum().item()
        (42, 1.0)
    """
    coords = points.detach().double().cpu().numpy()
    if coords.ndim != 2 or coords.shape[1] != 3 or not (np.linalg.norm(coords, axis=1) > 0).all():
        raise ValueError(f"points: expected shape (n, 3), none of them (0, 0, 0), got {tuple(points.shape)}")
    coords = coords / np.linalg.norm(coords, axis=1, keepdims=True)
    vertices, faces = icosphere(level)
    corners = vertices[faces]
    middles = corners.mean(1) / np.linalg.norm(corners.mean(1), axis=1, keepdims=True)
    _, near = KDTree(middles).query(coords, 8)  # six triangles meet at a node
    barycentric = np.einsum("nc,nkcv->nkv", coords, np.linalg.inv(corners)[near])  # all >= 0: inside
    best = barycentric.min(2).argmax(1)
    rows = np.arange(len(coords))
    weight = barycentric[rows, best].clip(min=0)
    src, dst = faces[near[rows, best]].ravel(), np.repeat(rows, 3)
    graph = _bipartite(src, dst, vertices, coords)
    graph.edata["weight"] = torch.from_numpy((weight / weight.sum(1, keepdims=True)).ravel())
    return graph


@names_checked()
def sphere_pooling(level: int) -> GraphLike:
    """The bipartite graph of pooling from the nodes of a sphere to those of the next coarser one.

    Every coarse node has in-edges from the fine node at its position and that node's neighbours. For
    :class:`gnnlib.grid.GridPool` or `aggregate`; reversed, for unpooling.

    Shapes:
        - 10 4^level + 2 nodes of type "in", 10 4^(level - 1) + 2 of type "out", with ``pos`` at both

    Raises:
        ValueError: if the level is 0, which has no coarser one.

    Example:
        >>> from gnnlib.images import sphere_pooling
        >>> graph = sphere_pooling(2)
        >>> graph.num_nodes("in"), graph.num_nodes("out"), graph.in_degrees().unique().tolist()
        (162, 42, [6, 7])
    """
    if level < 1:
        raise ValueError(f"level: expected 1 or more, got {level}")
    fine, coarse = sphere_graph(level), icosphere(level - 1)[0]
    src, dst = (nodes.numpy() for nodes in fine.edges())
    nodes = np.arange(len(coarse))
    mask = dst < len(coarse)
    src, dst = np.concatenate([nodes, src[mask]]), np.concatenate([nodes, dst[mask]])
    order = np.argsort(dst, kind="stable")
    return _bipartite(src[order], dst[order], fine.ndata["pos"].numpy(), coarse)


def _bipartite(src: np.ndarray, dst: np.ndarray, src_pos: np.ndarray, dst_pos: np.ndarray) -> GraphLike:
    edges = torch.from_numpy(src), torch.from_numpy(dst)
    graph = new_bipartite(("in", "near", "out"), *edges, len(src_pos), len(dst_pos))
    graph.srcdata["pos"], graph.dstdata["pos"] = (torch.from_numpy(p.astype(np.float32)) for p in (src_pos, dst_pos))
    return graph
