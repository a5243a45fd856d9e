"""Point sets and meshes as graphs: landmarks, skeletons, triangle meshes and the icosphere."""

import numpy as np
import torch
from scipy.spatial import KDTree
from torch import Tensor

from gnnlib._utils.calls import names_checked
from gnnlib.graph import GraphLike, new_graph, takes_graph
from gnnlib.images._image import as_array, as_integer

__all__ = ["icosphere", "mesh_graph", "point_graph", "sphere_graph", "with_offsets"]

Array = Tensor | np.ndarray


@names_checked()
def point_graph(points: Array, edges: Array) -> GraphLike:
    """The graph of points and undirected lines between them, such as landmarks of a face or the bones of a skeleton.

    - ``ndata["pos"]``: (n, d) float32, the points;
    - ``edata["offset"]``: (E, d), pos[src] - pos[dst]; ``edata["distance"]``: (E,), its length.

    Every line becomes an edge in each direction. Edges are sorted by destination, then by source. Duplicate lines count
    once.

    Args:
        points: (n, d) numbers, n and d at least 1.
        edges: (m, 2) integers, the two points of each line; (0, 2) for none.

    Raises:
        ValueError: if a shape is wrong, a position is not finite, an index is out of range, or a line joins a point to
            itself.
        TypeError: if the indices are not integers.

    Example:
        >>> import numpy as np
        >>> from gnnlib.images import point_graph
        >>> g = point_graph(np.array([[0.0, 0.0], [3.0, 4.0], [0.0, 1.0]]), np.array([[0, 1], [2, 0]]))
        >>> [(int(u), int(v)) for u, v in zip(*g.edges())], g.edata["distance"].tolist()
        ([(1, 0), (2, 0), (0, 1), (0, 2)], [5.0, 1.0, 5.0, 1.0])
    """
    pos = _points(points)
    lines = _indices("edges", edges, 2, len(pos))
    loops = lines[lines[:, 0] == lines[:, 1]]
    if len(loops):
        raise ValueError(f"edges: expected two different points, got {loops[0].tolist()}")
    both = np.concatenate([lines, lines[:, ::-1]])
    dst, src = np.unique(both, axis=0).T
    graph = new_graph(src.copy(), dst.copy(), len(pos))
    graph.ndata["pos"] = torch.from_numpy(pos)
    return with_offsets(graph)


@names_checked()
def mesh_graph(vertices: Array, faces: Array) -> GraphLike:
    """The graph of a mesh: :func:`point_graph` of its vertices and the sides of its faces.

    Args:
        vertices: (n, d) numbers.
        faces: (f, c) integers, the corners of each face in order: c = 3 for triangles, 4 for quads.

    Raises:
        ValueError: as :func:`point_graph`, and if a face has fewer than 3 corners.
        TypeError: as :func:`point_graph`.

    Example:
        >>> import numpy as np
        >>> from gnnlib.images import mesh_graph
        >>> g = mesh_graph(np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]]), np.array([[0, 1, 2], [1, 3, 2]]))
        >>> g.num_edges(), g.in_degrees().tolist()
        (10, [2, 3, 3, 2])
    """
    pos = _points(vertices)
    shape = as_array(faces).shape
    if len(shape) != 2 or shape[1] < 3:
        raise ValueError(f"faces: expected shape (faces, corners) with 3 corners or more, got {shape}")
    corners = _indices("faces", faces, shape[1], len(pos))
    return point_graph(pos, np.stack([corners, np.roll(corners, -1, axis=1)], axis=-1).reshape(-1, 2))


@names_checked()
def sphere_graph(level: int, reach: float | None = None) -> GraphLike:
    """The unit sphere as a nearly regular graph: :func:`mesh_graph` of the :func:`icosphere`. With more neighbours the
    layers are closer to rotation equivariance (Defferrard et al. 2020, arXiv 2012.15000).

    Args:
        level: see :func:`icosphere`.
        reach: join all nodes within this distance, in mean lengths of a triangle's side; None: the sides alone.

    Shapes:
        - n = 10 4^level + 2 nodes, twelve with 5 neighbours and the rest with 6, so 60 4^level edges, unless ``reach``
          is set
        - ``ndata["pos"]``: (n, 3), of length 1

    Raises:
        ValueError: as :func:`icosphere`, and if the reach is not positive.
        TypeError: as :func:`icosphere`.

    Example:
        >>> from gnnlib.images import sphere_graph
        >>> [(g.num_nodes(), g.num_edges()) for g in map(sphere_graph, range(3))]
        [(12, 60), (42, 240), (162, 960)]
        >>> sphere_graph(2, reach=2.5).in_degrees().unique().tolist()
        [18, 21, 25]
    """
    vertices, faces = icosphere(level)
    graph = mesh_graph(vertices, faces)
    if reach is None:
        return graph
    if not reach > 0:
        raise ValueError(f"reach: expected None or a positive number, got {reach}")
    radius = reach * graph.edata["distance"].mean().item()
    return point_graph(vertices, KDTree(vertices).query_pairs(radius, output_type="ndarray"))


@names_checked()
def icosphere(level: int) -> tuple[np.ndarray, np.ndarray]:
    """The icosphere: an icosahedron whose triangles are split into four and projected to the sphere, ``level`` times.

    The vertices of a level are the first of the next, so pooling keeps the first 10 4^(level - 1) + 2 rows.

    Shapes:
        - vertices: (10 4^level + 2, 3) float64
        - faces: (20 4^level, 3), counterclockwise seen from outside

    Raises:
        ValueError: if the level is outside 0 to 10.
        TypeError: if the level is not an integer.

    Example:
        >>> from gnnlib.images import icosphere
        >>> vertices, faces = icosphere(1)
        >>> vertices.shape, faces.shape
        ((42, 3), (80, 3))
    """
    if not 0 <= as_integer("level", level) <= 10:
        raise ValueError(f"level: expected 0 to 10, got {level}")
    golden = (1 + np.sqrt(5)) / 2
    signs = np.array([[0, a, b * golden] for a in (-1, 1) for b in (-1, 1)])
    vertices = np.concatenate([np.roll(signs, turn, axis=1) for turn in range(3)])
    vertices /= np.linalg.norm(vertices, axis=1, keepdims=True)
    faces = _hull(vertices)
    for _ in range(level):
        sides = np.stack([faces, np.roll(faces, -1, axis=1)], axis=-1)  # (f, 3, 2): corner c and the next
        pairs, middle = np.unique(np.sort(sides.reshape(-1, 2)), axis=0, return_inverse=True)
        middle = len(vertices) + middle.reshape(-1, 3)
        centre = vertices[pairs].sum(1)
        vertices = np.concatenate([vertices, centre / np.linalg.norm(centre, axis=1, keepdims=True)])
        corner = np.stack([faces, middle, np.roll(middle, 1, axis=1)], axis=-1).reshape(-1, 3)
        faces = np.concatenate([corner, middle])
    return vertices, faces


def _hull(vertices: np.ndarray) -> np.ndarray:
    """The icosahedron's faces, oriented outwards: triples of vertices that are pairwise nearest."""
    distance = np.linalg.norm(vertices[:, None] - vertices[None], axis=-1)
    adjacent = np.isclose(distance, distance[distance > 1e-9].min())
    a, b, c = np.nonzero(adjacent[:, :, None] & adjacent[None] & adjacent[:, None])
    faces = np.stack([a, b, c], axis=1)[(a < b) & (b < c)]
    inwards = np.linalg.det(vertices[faces]) < 0
    faces[inwards] = faces[inwards][:, ::-1]
    return faces


@takes_graph()
def with_offsets(graph: GraphLike) -> GraphLike:
    """Store relative positions: ``edata["offset"]`` (E, d), pos[src] - pos[dst], and ``edata["distance"]`` (E,), its
    length.

    Example:
        >>> import torch
        >>> from gnnlib.images.points import with_offsets
        >>> import dgl
        >>> g = dgl.graph(([0], [1]))
        >>> g.ndata["pos"] = torch.tensor([[3.0], [4.0]])
        >>> with_offsets(g).edata["offset"].tolist(), g.edata["distance"].tolist()
        ([[-1.0]], [1.0])
    """
    src, dst = (nodes.long() for nodes in graph.edges())
    graph.edata["offset"] = graph.ndata["pos"][src] - graph.ndata["pos"][dst]
    graph.edata["distance"] = graph.edata["offset"].norm(dim=1)
    return graph


def _points(points: Array) -> np.ndarray:
    pos = as_array(points).astype(np.float32)
    if pos.ndim != 2 or 0 in pos.shape:
        raise ValueError(f"points: expected shape (points, axes), at least one of each, got {pos.shape}")
    if not np.isfinite(pos).all():
        row = int(np.argmin(np.isfinite(pos).all(1)))
        raise ValueError(f"points: expected finite positions, got {pos[row].tolist()} at point {row}")
    return pos


def _indices(name: str, values: Array, columns: int, nodes: int) -> np.ndarray:
    rows = as_array(values)
    if not np.issubdtype(rows.dtype, np.integer):
        raise TypeError(f"{name}: expected integers, got {rows.dtype}")
    if rows.ndim != 2 or rows.shape[1] != columns:
        raise ValueError(f"{name}: expected shape (rows, {columns}), got {rows.shape}")
    if rows.size and (rows.min() < 0 or rows.max() >= nodes):
        raise ValueError(f"{name}: expected indices from 0 to {nodes - 1}, got {rows.min()} to {rows.max()}")
    return rows.astype(np.int64)
