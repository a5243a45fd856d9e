"""The edges that a layer of PyG sums over, computed once for each ``edge_index`` and stored beside it.

Self-loops and normalisation are those of PyG's functions, so degrees of directed and weighted graphs are PyG's.
"""

from collections.abc import Callable, Hashable
from typing import Any

import torch
from torch import Tensor
from torch_geometric.nn.conv.gcn_conv import gcn_norm
from torch_geometric.utils import add_self_loops, remove_self_loops, to_edge_index

from gnnlib.compat.pyg_nn._routing import INTEGERS, Unserved
from gnnlib.graph import Adjacency
from gnnlib.graph._adjacency import constants
from gnnlib.graph._derived import Identity, derived, tensor_state

__all__ = ["ends_of", "gcn_edges", "graph_of", "loop_edges", "pair_of", "stored"]

SPARSE = (torch.sparse_coo, torch.sparse_csr)
SOURCE_TO_TARGET = "source_to_target"


def stored(edge_index: Tensor, key: Hashable, compute: Callable[[], Any], value: Tensor | None = None) -> Any:
    """What is computed from edges, and from values of theirs, stored until one of them changes.

    A result for values that need a gradient is computed at each call. A tensor that ``compute`` returns must not be
    ``edge_index``.
    """
    if value is not None and value.requires_grad and torch.is_grad_enabled():
        return compute()

    def constant() -> Any:
        with constants():
            return compute()

    kind = "edge_index" if edge_index.layout is torch.strided else "torch.sparse"
    if value is None:
        return derived(edge_index, kind, key, constant)
    state = tensor_state(value)
    if state is None:
        return compute()
    cell: list[Any] = derived(edge_index, kind, (key, "value"), list)
    fingerprint = Identity(value), state
    if not cell or cell[0] != fingerprint:
        cell[:] = fingerprint, constant()
    return cell[1]


def graph_of(
    edge_index: Tensor, num_src: int, num_dst: int, flow: str = SOURCE_TO_TARGET, value_axes: int = 0
) -> tuple[Adjacency, Tensor | None]:
    """The adjacency of an ``edge_index`` (2, E), or of a sparse matrix (N_dst, N_src) with its values.

    Args:
        edge_index: the edges
        num_src: number of sources
        num_dst: number of destinations
        flow: "source_to_target", or the reverse
        value_axes: the axes of a value of a sparse matrix; 0: numbers

    Returns:
        the adjacency, and the values or None

    Raises:
        Unserved: if there is an error, which PyG reports, or PyG has other semantics for the matrix
    """
    if edge_index.layout is torch.strided:
        if edge_index.dim() != 2 or len(edge_index) != 2 or edge_index.dtype not in INTEGERS:
            raise Unserved
        ends = (0, 1) if flow == SOURCE_TO_TARGET else (1, 0)

        def adjacency() -> Adjacency:
            src, dst = (edge_index[end].to(torch.int32, copy=True) for end in ends)
            return _from_edges(src, dst, num_src, num_dst)

        return stored(edge_index, ("adjacency", num_src, num_dst, flow), adjacency), None
    if not _is_served(edge_index, value_axes) or edge_index.shape[:2] != (num_dst, num_src) or flow != SOURCE_TO_TARGET:
        raise Unserved

    def matrix() -> tuple[Adjacency, Tensor]:
        (dst, src), values = to_edge_index(edge_index.detach())
        return _from_edges(src, dst, num_src, num_dst), values

    return stored(edge_index, "adjacency", matrix)


def _from_edges(src: Tensor, dst: Tensor, num_src: int, num_dst: int) -> Adjacency:
    try:
        return Adjacency.from_edges(src, dst, num_src, num_dst)
    except ValueError:
        raise Unserved from None


def _is_served(matrix: Tensor, value_axes: int = 0) -> bool:
    """Whether a sparse matrix has a fixed order of edges and no gradient, and its values have a number of axes."""
    return (
        matrix.layout in SPARSE
        and matrix.dim() == 2 + value_axes
        and matrix.dense_dim() == value_axes
        and not matrix.requires_grad
        and (matrix.layout is not torch.sparse_coo or matrix.is_coalesced())
    )


def pair_of(x: Any, size: Any = None) -> tuple[Tensor, Tensor]:
    """The features of both ends: x of a pair, or x twice.

    Raises:
        Unserved: unless both are matrices whose rows are ``size``
    """
    x_src, x_dst = x if isinstance(x, (tuple, list)) and len(x) == 2 else (x, x)
    if not _is_matrix(x_src) or not _is_matrix(x_dst):
        raise Unserved
    if size is not None and tuple(size) != (len(x_src), len(x_dst)):
        raise Unserved
    return x_src, x_dst


def ends_of(x: Any, edge_index: Tensor, size: Any = None) -> tuple[Tensor, Tensor | None, int]:
    """The features of both ends, and the number of destinations, whose features may be None.

    Raises:
        Unserved: unless they are matrices, or their rows are not known or not ``size``
    """
    if not isinstance(x, (tuple, list)) or len(x) != 2 or x[1] is not None:
        x_src, x_dst = pair_of(x, size)
        return x_src, x_dst, len(x_dst)
    if edge_index.layout is not torch.strided:
        size = edge_index.shape[1::-1]
    if not _is_matrix(x[0]) or size is None or size[0] != len(x[0]) or size[1] is None:
        raise Unserved
    return x[0], None, size[1]


def _is_matrix(x: Any) -> bool:
    return isinstance(x, Tensor) and x.dim() == 2 and x.layout is torch.strided


def gcn_edges(
    layer: Any,
    x: Tensor,
    edge_index: Tensor,
    edge_weight: Tensor | None,
    *,
    improved: bool = False,
    add_self_loops: bool = True,
) -> tuple[Adjacency, Tensor | None]:
    """The adjacency and the weights of PyG's ``gcn_norm``, or those that a layer with ``cached`` has stored."""
    edges = getattr(layer, "_cached_edge_index", None)
    if edges is None:
        edges = _normalized(edge_index, edge_weight, (len(x), improved, add_self_loops, layer.flow, x.dtype))
        if hasattr(layer, "_cached_edge_index") and layer.cached:
            layer._cached_edge_index = edges
    edge_index, weight = edges
    adj, values = graph_of(edge_index, len(x), len(x), layer.flow)
    return adj, values if weight is None else weight


def _normalized(edge_index: Tensor, weight: Tensor | None, options: tuple[Any, ...]) -> tuple[Tensor, Tensor | None]:
    sparse = edge_index.layout is not torch.strided
    if sparse and not _is_served(edge_index):
        raise Unserved
    if not sparse:
        graph_of(edge_index, options[0], options[0])  # checks

    def normalize() -> tuple[Tensor | None, Tensor | None]:
        index, normalized = gcn_norm(edge_index, weight, *options)
        return None if index is edge_index else index, normalized

    index, normalized = stored(edge_index, ("gcn_norm", options), normalize, None if sparse else weight)
    if index is not None and normalized is not None and normalized.requires_grad:
        index = stored(edge_index, ("gcn_norm edges", options), lambda: index)
    return edge_index if index is None else index, normalized


def loop_edges(
    edge_index: Tensor, edge_attr: Tensor | None, num_nodes: int, fill_value: Any
) -> tuple[Tensor, Tensor | None]:
    """The edges but self-loops, and then one self-loop per node, with their features."""
    if edge_index.layout is not torch.strided and (edge_attr is not None or not _is_served(edge_index)):
        raise Unserved

    def add() -> tuple[Tensor, Tensor | None]:
        edges = remove_self_loops(edge_index, edge_attr)
        return add_self_loops(*edges, fill_value=fill_value, num_nodes=num_nodes)

    key = ("self-loops", num_nodes, fill_value if isinstance(fill_value, (str, int, float)) else None)
    if isinstance(fill_value, Tensor) and edge_attr is not None:
        index, attributes = add()
    else:
        index, attributes = stored(edge_index, key, add, edge_attr)
    if attributes is not None:
        index = stored(edge_index, ("self-loop edges", num_nodes), lambda: index)
    return index, attributes
