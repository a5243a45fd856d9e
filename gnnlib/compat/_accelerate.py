"""DGL's message passing on gnnlib's kernels.

DGL's layers and ``update_all``, ``apply_edges``, ``edge_softmax`` and readouts call four functions of DGL's backend.
`accelerate` replaces these by functions that compute weighted sums, dot products, softmax and wide readouts on
gnnlib's kernels, and call DGL's function for the rest. The thresholds below come from forward and backward passes on
one thread, on graphs of 20 to 20000 nodes; ``python -m benchmarks speed --only accelerate`` times whole layers.
"""

import importlib
import sys
from collections import Counter
from collections.abc import Callable
from functools import partial, wraps
from typing import Any, TextIO

import torch
from torch import Tensor

from gnnlib._platform.dgl import check_dgl, dgl
from gnnlib._utils.calls import names_checked
from gnnlib.compat._batch import batch
from gnnlib.graph import Adjacency, adjacency, segments
from gnnlib.graph._relations import relation_structure
from gnnlib.ops import aggregate, edge_dot, edge_softmax

MIN_PRODUCTS = 1 << 16  # of edges, heads and features in a weighted sum or a dot product
NARROW, MIN_NARROW_PRODUCTS = 8, 1 << 19  # the same for fewer features per head than `NARROW`
MIN_SCORES = 1 << 14  # of edges and heads in a softmax
MIN_SEGMENT_WIDTH, MIN_SEGMENT_NUMBERS = 16, 1 << 18  # in a reduction of segments

CPU = 1  # DGL's number of the device
Serve = Callable[..., Any]  # returns None where DGL computes


@names_checked()
class Acceleration:
    """A period in which DGL computes on gnnlib's kernels; returned by `accelerate`, which starts it.

    Attributes:
        calls: the number of calls of each operation and library, as ``calls["u_mul_e_sum", "gnnlib"]``
    """

    def __init__(self, verbose: bool = False, file: TextIO | None = None):
        self.calls: Counter[tuple[str, str]] = Counter()
        self._verbose, self._file = verbose, file
        self._running = False

    def start(self) -> "Acceleration":
        """Starts it; without effect while it runs."""
        if not self._running:
            if not _running:
                _install()
            self._running = True
            _running.append(self)
        return self

    def stop(self) -> None:
        """Ends it; without effect afterwards. DGL's functions return with the end of the last one that runs."""
        if self._running:
            self._running = False
            _running.remove(self)
            if not _running:
                _uninstall()

    def __enter__(self) -> "Acceleration":
        return self.start()

    def __exit__(self, *exception: object) -> None:
        self.stop()

    def _count(self, operation: str, library: str, tensors: tuple[Any, ...]) -> None:
        if self._verbose and not self.calls[operation, library]:
            shapes = ", ".join(str(tuple(t.shape)) for t in tensors if isinstance(t, Tensor))
            of = f" of {shapes}" if shapes else ""
            print(f"gnnlib.accelerate: {operation}{of} by {library}", file=self._file or sys.stderr)
        self.calls[operation, library] += 1

    def __repr__(self) -> str:
        lines = [f"  {operation}: {count} by {library}" for (operation, library), count in sorted(self.calls.items())]
        return "\n".join([f"Acceleration({'running' if self._running else 'stopped'})", *lines])


_running: list[Acceleration] = []
_originals: list[tuple[Any, str, Any, Any]] = []  # owner, name, DGL's function, ours


@names_checked()
def accelerate(verbose: bool = False) -> Acceleration:
    """Computes DGL's message passing on gnnlib's kernels from here on.

    Weighted sums, sums with a weight per head, dot products, edge softmax and wide readouts are routed, with their
    gradients, for whole graphs, blocks and graphs with several types. The rest stays with DGL: small graphs, plain
    sums, other operations, integers and half precision, ``autocast``. Results agree with DGL's up to rounding.
    ``dgl.batch`` gives the same batch with fewer calls of DGL's library.

    Features may be on a GPU while the graph stays on the CPU: gnnlib then computes all operations that it has.

    Args:
        verbose: print a line to the standard error at the first call of each operation, with the library that
            computes it

    Returns:
        What runs, as a context manager: ``with accelerate(): ...`` ends at the end of the block, and
        ``accelerate().stop()`` ends at once. Nested calls end with the outermost.

    Raises:
        ImportError: if DGL is not installed, or this version lacks one of the functions that are replaced

    Example:
        >>> import gnnlib
        >>> import dgl
        >>> import torch
        >>> graph, conv = dgl.rand_graph(1000, 20000), dgl.nn.GATConv(16, 16, 4)
        >>> with gnnlib.accelerate() as acceleration:
        ...     y = conv(graph.add_self_loop(), torch.rand(1000, 16))
        >>> acceleration.calls["u_mul_e_sum", "gnnlib"], acceleration.calls["edge_softmax", "gnnlib"]
        (1, 1)
    """
    return Acceleration(verbose).start()


# ---------------------------------------------------------------- what is routed


def _on_kernels(structure: Any, *tensors: Tensor) -> bool:
    """Whether gnnlib computes with these tensors on this structure: one edge type, on the CPU."""
    first = tensors[0]
    return (
        structure.number_of_etypes() == 1
        and structure.ctx.device_type == CPU
        and all(t.dtype == first.dtype and t.device == first.device and t.dim() > 1 for t in tensors)
        and first.dtype in (torch.float32, torch.float64)
        and not _autocast(first.device.type)
    )


def _autocast(device: str) -> bool:
    return torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device)


def _adjacency(structure: Any, like: Tensor) -> Adjacency:
    cached = structure.__dict__.get("_gnnlib_adjacency", {}).get(like.device)
    if cached is not None:
        return cached
    types = [str(i) for i in range(structure.number_of_ntypes())]
    return adjacency(dgl.DGLGraph(structure, types, ["0"]), like.device)


def _pays(numbers: int, least: int, like: Tensor) -> bool:
    """Whether the kernels are faster. DGL has none for features that are on another device than the graph."""
    return numbers >= least or like.device.type != "cpu"


def _product_pays(structure: Any, x: Tensor, heads: int) -> bool:
    numbers, width = structure.number_of_edges(0) * heads * x.shape[-1], x.shape[-1]
    return _pays(numbers, MIN_PRODUCTS if width >= NARROW else MIN_NARROW_PRODUCTS, x)


def _gspmm(structure: Any, op: str, reduce: str, x: Tensor | None, e: Tensor | None) -> Tensor | None:
    """The sum of messages, or None where DGL computes it."""
    if reduce != "sum" or x is None or not _on_kernels(structure, *(t for t in (x, e) if t is not None)):
        return None
    if op == "copy_lhs":
        return aggregate(_adjacency(structure, x), x) if x.device.type != "cpu" else None
    if op != "mul" or e is None or e.shape[-1] != 1 or x.dim() != e.dim():
        return None
    coeff = e.squeeze(-1)
    return aggregate(_adjacency(structure, x), x, coeff) if _product_pays(structure, x, coeff[:1].numel()) else None


def _gsddmm(
    structure: Any, op: str, x: Tensor | None, y: Tensor | None, lhs: str = "u", rhs: str = "v"
) -> Tensor | None:
    """The dot product of both ends of each edge, or None where DGL computes it."""
    if op != "dot" or {lhs, rhs} != {"u", "v"} or x is None or y is None or not _on_kernels(structure, x, y):
        return None
    if x.dim() != y.dim() or not _product_pays(structure, x, max(x[:1, ..., 0].numel(), y[:1, ..., 0].numel())):
        return None
    src, dst = (x, y) if lhs == "u" else (y, x)
    return edge_dot(_adjacency(structure, x), src, dst).unsqueeze(-1)


def _edge_softmax(structure: Any, score: Tensor, eids: Any = None, norm_by: str = "dst") -> Tensor | None:
    if (eids is not None and not dgl.base.is_all(eids)) or not _on_kernels(structure, score):
        return None
    if not _pays(score.numel(), MIN_SCORES, score):
        return None
    adj = _adjacency(structure, score)
    return edge_softmax(adj if norm_by == "dst" else adj.reverse(), score)


def _segment_reduce(op: str, x: Tensor, offsets: Tensor) -> Tensor | None:
    """As DGL's, a maximum is minus infinity for an empty segment."""
    wide = x.dim() == 2 and x.shape[1] >= MIN_SEGMENT_WIDTH and x.numel() >= MIN_SEGMENT_NUMBERS
    if not wide or op not in ("sum", "max") or x.dtype not in (torch.float32, torch.float64):
        return None
    if x.device.type != "cpu" or _autocast("cpu"):
        return None
    sizes = offsets.diff()
    y = aggregate(segments(sizes), x, reduce=op)
    return y if op == "sum" else y.masked_fill((sizes == 0).unsqueeze(1), -torch.inf)


def _gspmm_name(structure: Any, op: str, reduce: str, *operands: Any) -> str:
    return f"{op.replace('lhs', 'u').replace('rhs', 'e') if op.startswith('copy') else f'u_{op}_e'}_{reduce}"


def _gsddmm_name(structure: Any, op: str, x: Any, y: Any, lhs: str = "u", rhs: str = "v") -> str:
    return f"copy_{lhs if op == 'copy_lhs' else rhs}" if op.startswith("copy") else f"{lhs}_{op}_{rhs}"


# Where DGL looks a function up, its name there, the function above, the name of a call in `Acceleration.calls`.
_ROUTES: list[tuple[str, str, Serve, Callable[..., str]]] = [
    ("dgl.ops.spmm", "gspmm_internal", _gspmm, _gspmm_name),
    ("dgl.ops.sddmm", "gsddmm_internal", _gsddmm, _gsddmm_name),
    ("dgl.ops.edge_softmax", "edge_softmax_internal", _edge_softmax, lambda *args, **kwargs: "edge_softmax"),
    ("dgl.backend", "segment_reduce", _segment_reduce, lambda op, *args: f"segment_{op}"),
    ("dgl", "batch", batch, lambda *args, **kwargs: "batch"),
    ("dgl.batch", "batch", batch, lambda *args, **kwargs: "batch"),
    ("dgl.dataloading.dataloader", "batch_graphs", batch, lambda *args, **kwargs: "batch"),
]


# ---------------------------------------------------------------- replacing DGL's functions


def _routed(theirs: Callable, serve: Serve, name: Callable[..., str]) -> Callable:
    @wraps(theirs)
    def routed(*args: Any, **kwargs: Any) -> Any:
        if not _running:  # imported from DGL by another module while it ran
            return theirs(*args, **kwargs)
        y = serve(*args, **kwargs)
        for acceleration in _running:
            acceleration._count(name(*args, **kwargs), "DGL" if y is None else "gnnlib", args)
        return theirs(*args, **kwargs) if y is None else y

    return routed


def _relation_of(theirs: Callable) -> Callable:
    """DGL makes a new structure of a relation at each call, and with it a new adjacency: keep the first."""

    def get_relation_graph(self: Any, etype: int) -> Any:
        return relation_structure(self, int(etype), lambda: theirs(self, etype))

    return get_relation_graph


def _any_device(theirs: Callable, frames: str) -> Callable:
    """DGL's assignment of features refuses another device than the graph's, which a graph on the CPU may accept."""

    def assign(self: Any, type_id: int, rows: Any, data: dict[str, Any]) -> None:
        frame, remaining = getattr(self, frames)[type_id], {}
        for name, value in data.items():
            moved = isinstance(value, Tensor) and value.device != self.device and self.device.type == "cpu"
            if moved and dgl.base.is_all(rows) and len(value) == frame.num_rows:
                frame[name] = value
            else:
                remaining[name] = value
        theirs(self, type_id, rows, remaining)

    return assign


def _install() -> None:
    check_dgl("accelerate")
    structure_type = dgl.heterograph_index.HeteroGraphIndex
    replacements: list[tuple[Any, str, Callable[[Callable], Callable]]] = [
        (owner, name, partial(_routed, serve=serve, name=label))
        for module, name, serve, label in _ROUTES
        for owner in [importlib.import_module(module)]
    ]
    replacements += [
        (structure_type, "get_relation_graph", _relation_of),
        (dgl.DGLGraph, "_set_n_repr", partial(_any_device, frames="_node_frames")),
        (dgl.DGLGraph, "_set_e_repr", partial(_any_device, frames="_edge_frames")),
    ]
    missing = [f"{owner.__name__}.{name}" for owner, name, _ in replacements if not hasattr(owner, name)]
    if missing:
        raise ImportError(f"accelerate: expected a DGL from 1.1.3 to 2.x, got {dgl.__version__} without {missing}")
    for owner, name, replace in replacements:
        theirs = getattr(owner, name)
        ours = replace(theirs)
        _originals.append((owner, name, theirs, ours))
        setattr(owner, name, ours)


def _uninstall() -> None:
    while _originals:
        owner, name, theirs, ours = _originals.pop()
        if getattr(owner, name) is ours:  # else another library has replaced it since, and calls ours
            setattr(owner, name, theirs)
