"""Graphs as inputs of ``torch.compile`` and ``torch.export``: tensors alone, with the adjacency computed."""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, TypeGuard

import torch
from torch import Tensor
from torch._compile import _disable_dynamo
from torch.utils import _pytree

from gnnlib.graph._adjacency import Adjacency, CompressedRows
from gnnlib.graph._graph import EdgeType, Frame, Graph, _Edges, _Nodes

__all__ = ["PreparedGraph", "adjacency_of_tensors", "is_prepared", "run_eagerly", "tensors_of_adjacency"]

EXPECTED = "expected gnnlib.prepare(graph), got another graph, message dropout or Reversible"


def tensors_of_adjacency(adj: Adjacency) -> tuple[Tensor, ...]:
    """The endpoints, and the rows of both formats."""
    return adj.src, adj.dst, *adj.csc, *adj.csr


def adjacency_of_tensors(src: Tensor, dst: Tensor, *rows: Tensor) -> Adjacency:
    """The adjacency of `tensors_of_adjacency`. The numbers of nodes are read from shapes, which may vary."""
    csc, csr = CompressedRows(*rows[:3]), CompressedRows(*rows[3:])
    return Adjacency(csr.indptr.shape[0] - 1, csc.indptr.shape[0] - 1, src, dst, csc, csr)


class PreparedGraph(Graph):
    """A `Graph` of one edge type with a computed adjacency, which PyTorch's compilers take as its tensors."""

    _tensors: tuple[Tensor, ...]

    @staticmethod
    def of(graph: Graph, adj: Adjacency) -> "PreparedGraph":
        """A graph with the edges and features of another, and its adjacency."""
        prepared = PreparedGraph.__new__(PreparedGraph)
        vars(prepared).update(vars(graph))
        prepared._tensors = tensors_of_adjacency(adj)
        return prepared

    @classmethod
    def _of(cls, *parts: Any) -> Any:
        """Copies of the graph are not prepared."""
        return Graph._of(*parts)

    def num_nodes(self, ntype: str | None = None) -> int:
        """The number of nodes, of a type or of all."""
        if ntype is not None:
            return super().num_nodes(ntype)
        two_sets = self.is_block or self._is_bipartite
        return self.num_src_nodes() + self.num_dst_nodes() if two_sets else self.num_src_nodes()

    def num_src_nodes(self, ntype: str | None = None) -> int:
        """The number of sources."""
        return self._tensors[5].shape[0] - 1 if ntype is None else super().num_src_nodes(ntype)

    def num_dst_nodes(self, ntype: str | None = None) -> int:
        """The number of destinations."""
        return self._tensors[2].shape[0] - 1 if ntype is None else super().num_dst_nodes(ntype)

    def num_edges(self, etype: str | EdgeType | None = None) -> int:
        """The number of edges."""
        return self._tensors[0].shape[0]

    @property
    def device(self) -> torch.device:
        """The device of the edges."""
        return self._tensors[0].device

    def __reduce__(self) -> tuple[Any, ...]:
        """A pickled graph computes its adjacency again."""
        return _prepare_again, (self.local_var(),)


def _prepare_again(graph: Graph) -> Graph:
    from gnnlib.graph._structure import prepare

    return prepare(graph)


class _Names(NamedTuple):
    """What a prepared graph is apart from its tensors."""

    etype: EdgeType
    is_block: bool
    idtype: str
    src: tuple[str, ...]
    dst: tuple[str, ...] | None
    edge: tuple[str, ...]
    sizes: tuple[bool, ...]
    """Whether the source nodes, the destination nodes and the edges have batch sizes."""


def _ends(graph: Graph) -> tuple[_Nodes, _Nodes, _Edges]:
    etype, edges = next(iter(graph._edges.items()))
    return graph._src[etype[0]], graph._dst[etype[2]], edges


def _flatten(graph: PreparedGraph) -> tuple[list[Any], _Names]:
    etype = next(iter(graph._edges))
    src, dst, edges = _ends(graph)
    frames = [src.frame, *([] if dst is src else [dst.frame]), edges.frame]
    sizes = [src.sizes, None if dst is src else dst.sizes, edges.sizes]
    names = _Names(
        etype,
        graph.is_block,
        str(graph.idtype).removeprefix("torch."),
        tuple(src.frame),
        None if dst is src else tuple(dst.frame),
        tuple(edges.frame),
        tuple(size is not None for size in sizes),
    )
    columns = [value for frame in frames for value in frame.values()]
    return [*graph._tensors, *columns, *(size for size in sizes if size is not None)], names


def _unflatten(leaves: Iterable[Any], names: _Names) -> PreparedGraph:
    values = iter(leaves)
    tensors = tuple(next(values) for _ in range(8))
    num_src, num_dst, num_edges = _rows(tensors[5]) - 1, _rows(tensors[2]) - 1, _rows(tensors[0])
    kind, one_set = names.etype, names.dst is None
    two_frames = ("srcdata", "dstdata") if names.is_block else ("ndata", "ndata")
    src = _Nodes(num_src, _frame(num_src, two_frames[0], names.src, values))
    dst = src if one_set else _Nodes(num_dst, _frame(num_dst, two_frames[1], names.dst or (), values))
    edges = _Edges(tensors[0], tensors[1], _frame(num_edges, "edata", names.edge, values))
    parts: tuple[Any, ...] = src, dst, edges
    for rows, has_sizes in zip(parts, names.sizes):
        if has_sizes:
            rows.sizes = next(values)
    graph = PreparedGraph.__new__(PreparedGraph)
    graph._src = {kind[0]: src}
    graph._dst = {kind[2]: dst} if names.is_block else graph._src
    if not names.is_block:
        graph._src[kind[2]] = dst
    graph._edges, graph.idtype, graph._tensors = {kind: edges}, getattr(torch, names.idtype), tensors
    return graph


def _rows(value: Any) -> int:
    """The number of rows; 1 where a leaf is no tensor, as in ``tree_map`` to other objects."""
    return value.shape[0] if isinstance(value, Tensor) else 1


def _frame(num_rows: int, kind: str, names: Iterable[str], values: Any) -> Frame:
    frame = Frame(num_rows, kind)
    dict.update(frame, {name: next(values) for name in names})  # what is no tensor is not refused
    return frame


def _names_of_json(values: list[Any]) -> _Names:
    rest: Any = (tuple(value) if isinstance(value, list) else value for value in values)
    return _Names(*rest)


_pytree.register_pytree_node(
    PreparedGraph,
    _flatten,
    _unflatten,
    serialized_type_name="gnnlib.Graph",
    to_dumpable_context=list,
    from_dumpable_context=_names_of_json,
    flatten_with_keys_fn=lambda graph: (
        [(_pytree.SequenceKey(i), value) for i, value in enumerate(_flatten(graph)[0])],
        _flatten(graph)[1],
    ),
)


def is_prepared(graph: Any) -> TypeGuard[Any]:
    """Whether a compiler can trace message passing on a graph."""
    if isinstance(graph, (list, tuple)):
        return all(is_prepared(part) for part in graph)
    return isinstance(graph, PreparedGraph) or (isinstance(graph, Adjacency) and graph.dropout is None)


@_disable_dynamo
def run_eagerly(function: Callable[..., Any], *args: Any, **options: Any) -> Any:
    """A call that ``torch.compile`` does not trace, nor what the function calls."""
    if torch.compiler.is_compiling():  # by torch.export
        raise RuntimeError(f"{function.__qualname__}: {EXPECTED}")
    return function(*args, **options)


vars(run_eagerly).update(_torchdynamo_disable=True, _torchdynamo_disable_msg=EXPECTED)
