"""Signals on the sphere: images projected onto it, its rotations, and the graphs from one set of its points to another.

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

from gnnlib._platform.dgl import dgl
from gnnlib.images.points import icosphere, sphere_graph

__all__ = [
    "equirectangular",
    "icosahedral_rotations",
    "project",
    "random_rotations",
    "sphere_interpolation",
    "sphere_pooling",
]


def project(images: Tensor, points: Tensor, rotation: Tensor | None = None) -> Tensor:
    r"""Images on the sphere by stereographic projection, which keeps angles, and rotated there:

    .. math:: x(p) = \mathrm{image}\Big(\sqrt{2}\, \frac{(-q_z,\, q_y)}{1 + q_x}\Big), \qquad q = R^{-1} p

    with rows and columns from -1 to 1, edge to edge. So the middle of an image is at (1, 0, 0), the first row is up,
    its corners are on the great circle between that half of the sphere and the other, which is 0. Between pixels images
    are linear, and 0 outside.

    Args:
        points: of length 1
        rotation: R, of all images or of each; None for none

    Shapes: images (B, C, rows, columns), points (n, 3), rotation (3, 3) or (B, 3, 3); returns (n, B, C), B signals on
    one graph.

    Raises: ValueError for other shapes.

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
    place = math.sqrt(2) * torch.stack([q[..., 1], -q[..., 2]], -1) / near  # columns, then rows
    place = place.where(near > 0.5, 2.0)  # outside, without asking where: the point opposite has no place
    place = place.expand(len(images), *place.shape[-2:]).unsqueeze(1)
    return F.grid_sample(images, place, align_corners=False).squeeze(2).permute(2, 0, 1).contiguous()


def equirectangular(size: Sequence[int]) -> Tensor:
    """The sphere as a map: the middles of cells of equal height in latitude and equal width in longitude, row by row,
    north first, (1, 0, 0) in the middle of the map.

    Shapes: size (rows, columns); returns (rows columns, 3) float64.

    >>> equirectangular((1, 4)).round(decimals=3).tolist()
    [[-0.707, -0.707, 0.0], [0.707, -0.707, 0.0], [0.707, 0.707, 0.0], [-0.707, 0.707, 0.0]]
    """
    rows, columns = size
    down = (torch.arange(rows, dtype=torch.float64) + 0.5) * (torch.pi / rows)
    along = (torch.arange(columns, dtype=torch.float64) + 0.5) * (2 * torch.pi / columns) - torch.pi
    down, along = torch.meshgrid(down, along, indexing="ij")
    points = torch.stack([down.sin() * along.cos(), down.sin() * along.sin(), down.cos()], -1) + 0.0
    return points.flatten(0, 1)


def random_rotations(num: int, generator: torch.Generator | None = None) -> Tensor:
    """Rotations drawn uniformly: the orthogonal factors of Gaussian matrices, with the signs that make that so
    (Mezzadri 2007, arXiv math-ph/0609050, section 5), and those that turn over turned back.

    Shapes: returns (num, 3, 3) float64.

    >>> turns = random_rotations(4)
    >>> torch.allclose(turns @ turns.mT, torch.eye(3).double()), torch.linalg.det(turns).round().tolist()
    (True, [1.0, 1.0, 1.0, 1.0])
    """
    q, r = torch.linalg.qr(torch.randn(num, 3, 3, dtype=torch.float64, generator=generator))
    q = q * r.diagonal(dim1=-2, dim2=-1).sign().unsqueeze(-2)
    return q * torch.linalg.det(q).view(-1, 1, 1)


def icosahedral_rotations() -> Tensor:
    """The 60 rotations that take an icosahedron, and so every :func:`gnnlib.images.sphere_graph`, to itself; the first
    is none.

    Shapes: returns (60, 3, 3) float64.

    >>> turns = icosahedral_rotations()
    >>> len(turns), torch.allclose(turns[0], torch.eye(3).double())
    (60, True)
    """
    vertices, faces = icosphere(0)
    a, b = (torch.from_numpy(vertices[ends.ravel()]) for ends in (faces, np.roll(faces, -1, axis=1)))  # 60 sides
    frames = torch.stack([a, b, torch.linalg.cross(a, b)], -1)
    return frames @ torch.linalg.inv(frames[0])


def sphere_interpolation(level: int, points: Tensor) -> dgl.DGLGraph:
    """From the nodes of a sphere to any points on it: each hears the corners of the triangle that it is in, weighted so
    that signals are linear on triangles.

    ``aggregate(graph, x, graph.edata["weight"])`` is the signal there. With the points of the same sphere times R, that
    is R^-1 p, it is the rotated signal R x; of an icosahedral rotation without interpolating.

    Shapes: points (n, 3), of any length but 0; the graph has 3 n edges from node type "in" to "out", with ``pos`` at
    both, and ``edata["weight"]`` (3 n,) float64, which add up to 1 at each point.

    Raises: ValueError for points of another shape or without a direction.

    >>> graph = sphere_interpolation(1, torch.tensor([[0.0, 0.0, 2.0]]))
    >>> graph.num_nodes("in"), graph.edata["weight"].sum().item()
    (42, 1.0)
    """
    where = points.detach().double().cpu().numpy()
    if where.ndim != 2 or where.shape[1] != 3 or not (np.linalg.norm(where, axis=1) > 0).all():
        raise ValueError(f"points: expected shape (n, 3), none of them (0, 0, 0), got {tuple(points.shape)}")
    where = where / np.linalg.norm(where, axis=1, keepdims=True)
    vertices, faces = icosphere(level)
    corners = vertices[faces]
    middles = corners.mean(1) / np.linalg.norm(corners.mean(1), axis=1, keepdims=True)
    _, near = KDTree(middles).query(where, 8)  # six triangles meet at a node
    parts = np.einsum("nc,nkcv->nkv", where, np.linalg.inv(corners)[near])  # of each corner; all >= 0: inside
    best = parts.min(2).argmax(1)
    each = np.arange(len(where))
    part = parts[each, best].clip(min=0)
    src, dst = faces[near[each, best]].ravel(), np.repeat(each, 3)
    graph = _bipartite(src, dst, vertices, where)
    graph.edata["weight"] = torch.from_numpy((part / part.sum(1, keepdims=True)).ravel())
    return graph


def sphere_pooling(level: int) -> dgl.DGLGraph:
    """From the nodes of a sphere to those of the next coarser one: each hears the node at its place, and those around
    it. For :class:`gnnlib.grid.GridPool`, or `aggregate`; reversed, to unpool.

    Shapes: 10 4^level + 2 nodes of type "in", 10 4^(level - 1) + 2 of type "out", with ``pos`` at both.

    Raises: ValueError for level 0, which has no coarser one.

    >>> graph = sphere_pooling(2)
    >>> graph.num_nodes("in"), graph.num_nodes("out"), graph.in_degrees().unique().tolist()
    (162, 42, [6, 7])
    """
    if level < 1:
        raise ValueError(f"level: expected 1 or more, got {level}")
    fine, coarse = sphere_graph(level), icosphere(level - 1)[0]
    src, dst = (end.numpy() for end in fine.edges())
    own = np.arange(len(coarse))
    kept = dst < len(coarse)
    src, dst = np.concatenate([own, src[kept]]), np.concatenate([own, dst[kept]])
    order = np.argsort(dst, kind="stable")
    return _bipartite(src[order], dst[order], fine.ndata["pos"].numpy(), coarse)


def _bipartite(src: np.ndarray, dst: np.ndarray, before: np.ndarray, after: np.ndarray) -> dgl.DGLGraph:
    ends = torch.from_numpy(src), torch.from_numpy(dst)
    graph = dgl.heterograph({("in", "near", "out"): ends}, {"in": len(before), "out": len(after)})
    graph.srcdata["pos"], graph.dstdata["pos"] = (torch.from_numpy(p.astype(np.float32)) for p in (before, after))
    return graph
