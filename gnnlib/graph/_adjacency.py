"""Adjacency in CSC and CSR: the arrays that message passing reads."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor
from torch._functorch.pyfunctorch import temporarily_clear_interpreter_stack

from gnnlib import kernels
from gnnlib._utils.calls import names_checked

INT32_MAX = 2**31 - 1

transforms_active = torch._C._are_functorch_transforms_active
"""Whether the call is within a transform of ``torch.func``."""


def is_traced() -> bool:
    """Whether the numbers of tensors may not be read: within ``torch.compile``, ``torch.export`` or ``torch.func``."""
    return torch.compiler.is_compiling() or transforms_active()


@names_checked()
class CompressedRows(NamedTuple):
    """Edges in compressed sparse rows: the edges of node ``v`` are in slots ``indptr[v]`` to ``indptr[v + 1]``, in the
    order of their ids.

    Shapes:
        - indptr: (N + 1,) int32
        - indices: (E,) int32, the node at the other end of the edge in each slot
        - eid: (E,) int32, the edge id in each slot
    """

    indptr: Tensor
    indices: Tensor
    eid: Tensor


@names_checked()
class MessageDropout(NamedTuple):
    """Dropout of message entries without a stored mask: an entry is zero if the hash of the key, the edge and the
    column is below the threshold, and is multiplied by ``scale`` otherwise."""

    scale: float
    key: int
    threshold: int  # 2**32 times the dropout probability

    @staticmethod
    def sample(p: float) -> "MessageDropout":
        """Dropout with probability p and a key from PyTorch's random number generator."""
        threshold = min(round(p * 2**32), 2**32 - 1)
        return MessageDropout(1 / (1 - p) if p < 1 else 0.0, int(torch.randint(2**32, ())), threshold)


@names_checked()
@dataclass(frozen=True, eq=False)
class Adjacency:
    """The edges of a graph in three formats: COO, CSC (by destination) and CSR (by source).

    Args:
        num_src, num_dst: numbers of source and destination nodes
        src, dst: (E,) int32, the endpoints of every edge by edge id
        csc: in-edges of the destinations
        csr: out-edges of the sources
        cache: tensors that depend on the graph alone; see :meth:`cached`
        dropout: the dropout of messages, or None

    Example:
        >>> from gnnlib import adjacency
        >>> import dgl
        >>> adj = adjacency(dgl.graph(([0, 2, 1], [1, 1, 0])))
        >>> adj.csc.indptr.tolist(), adj.csc.indices.tolist(), adj.csc.eid.tolist()
        ([0, 1, 3, 3], [1, 0, 2], [2, 0, 1])
        >>> adj.reverse().csc is adj.csr
        True
    """

    num_src: int
    num_dst: int
    src: Tensor
    dst: Tensor
    csc: CompressedRows
    csr: CompressedRows
    cache: dict[object, tuple[Tensor, int]] = field(default_factory=dict, repr=False)
    dropout: MessageDropout | None = None

    @staticmethod
    def from_edges(src: Tensor, dst: Tensor, num_src: int, num_dst: int) -> "Adjacency":
        """Build from the endpoints of every edge by edge id, of any integer dtype, on any device.

        Raises:
            ValueError: if an endpoint is out of range.
            ValueError: if there are more than 2**31 - 1 nodes or edges.
        """
        if max(src.numel(), num_src, num_dst) > INT32_MAX:
            raise ValueError(
                f"expected at most {INT32_MAX} nodes and edges, got {num_src} sources, "
                f"{num_dst} destinations and {src.numel()} edges"
            )
        for name, nodes, count in (("source", src, num_src), ("destination", dst, num_dst)):
            if len(nodes) != len(src) or (len(nodes) and not 0 <= int(nodes.min()) <= int(nodes.max()) < count):
                raise ValueError(
                    f"expected one {name} for each of {len(src)} edges, from 0 to {count - 1}, got {len(nodes)} "
                    + (f"from {int(nodes.min())} to {int(nodes.max())}" if len(nodes) else "")
                )
        src, dst = src.int(), dst.int()
        return Adjacency(num_src, num_dst, src, dst, _compress(dst, src, num_dst), _compress(src, dst, num_src))

    @property
    def num_edges(self) -> int:
        return self.src.numel()

    @property
    def device(self) -> torch.device:
        return self.src.device

    @property
    def in_degrees(self) -> Tensor:
        """(num_dst,) int32"""
        return self.csc.indptr.diff()

    @property
    def out_degrees(self) -> Tensor:
        """(num_src,) int32"""
        return self.csr.indptr.diff()

    def reverse(self) -> "Adjacency":
        """The adjacency with every edge reversed. Shares all tensors."""
        return Adjacency(self.num_dst, self.num_src, self.dst, self.src, self.csr, self.csc, dropout=self.dropout)

    def to(self, device: torch.device) -> "Adjacency":
        """A copy on another device."""

        def move(rows: CompressedRows) -> CompressedRows:
            return CompressedRows(*(t.to(device) for t in rows))

        src, dst = self.src.to(device), self.dst.to(device)
        return Adjacency(self.num_src, self.num_dst, src, dst, move(self.csc), move(self.csr), dropout=self.dropout)

    def cached(self, key: object, compute: Callable[[], Tensor]) -> Tensor:
        """A tensor that depends on the graph alone, computed at its first use.

        It is computed again if a caller has modified it in place.
        """
        if torch.compiler.is_compiling():  # in the traced graph, which serves other adjacencies too
            return compute()
        tensor, version = self.cache.get(key, (None, 0))
        if tensor is None or tensor._version != version:
            with constants():
                tensor = compute()
            self.cache[key] = tensor, tensor._version
        return tensor.detach()


@contextmanager
def constants() -> Iterator[None]:
    """Tensors made here are cached beyond the caller's context: they need no gradient, are not inference tensors, which
    autograd would refuse later, and do not belong to a transform of ``torch.func``."""
    transforms = temporarily_clear_interpreter_stack() if transforms_active() else nullcontext()
    with transforms, torch.inference_mode(False), torch.no_grad():
        yield


def _compress(rows: Tensor, columns: Tensor, num_rows: int) -> CompressedRows:
    indptr, eid = kernels.choose(rows).group(rows, num_rows)
    return CompressedRows(indptr, columns[eid], eid)
