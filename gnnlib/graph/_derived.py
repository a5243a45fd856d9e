"""Results computed from objects of other libraries, stored beside them until they change."""

import zlib
from collections.abc import Callable, Hashable
from typing import Any, TypeVar
from weakref import ref

import numpy as np
import torch
from torch import Tensor
from torch.utils.weak import WeakIdKeyDictionary

__all__ = ["FINGERPRINTS", "Identity", "derived", "tensor_state"]

Result = TypeVar("Result")
_results = WeakIdKeyDictionary()  # object -> (fingerprint, results by key), as long as the object lives


def derived(data: Any, kind: str, key: Hashable, compute: Callable[[], Result]) -> Result:
    """What is computed from a graph of another library, stored beside it as long as it lives and is unchanged.

    Args:
        data: the graph
        kind: one of `FINGERPRINTS`, or another kind, whose changes cannot be observed: nothing is stored
        key: names the result
        compute: returns it; the result must not refer to ``data``, which would then never be freed

    Returns:
        the result, the same object until ``data`` changes
    """
    owner, fingerprint = FINGERPRINTS[kind](data) if kind in FINGERPRINTS else (None, None)
    if owner is None:
        return compute()
    stored, results = _results.get(owner, (None, {}))
    if stored != fingerprint:
        results = {}
        _results[owner] = fingerprint, results
    if key not in results:
        results[key] = compute()
    return results[key]


# What tells that an object has changed: a key that lives as long as the object, and values that change with it.


def tensor_state(value: Any) -> Any:
    """The state of a tensor or an array; None for what cannot be observed."""
    if isinstance(value, np.ndarray):
        return value.shape, value.dtype, zlib.crc32(np.ascontiguousarray(value).data)
    if value.is_inference() or value.layout is not torch.strided:
        return None
    return value.data_ptr(), value.shape, value._version


class Identity:
    """An object, compared by identity and referred to weakly: another one may later have its address."""

    def __init__(self, value: Any):
        self.value = ref(value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Identity) and self.value() is other.value() is not None

    __hash__ = None  # type: ignore[assignment]


def _of_edge_index(data: Any) -> tuple[Any, Any]:
    state = tensor_state(data)
    return (None if state is None else data), state


def _of_pair(data: Any) -> tuple[Any, Any]:
    src, dst = data
    if not all(isinstance(end, (Tensor, np.ndarray)) for end in data):
        return None, None
    states = tensor_state(src), tensor_state(dst)
    return (None if None in states else src), (states, Identity(dst))


def _of_sparse(data: Tensor) -> tuple[Any, Any]:
    if data.layout is torch.sparse_coo:
        arrays: tuple[Tensor, ...] = data._indices(), data._values()
    elif data.layout is torch.sparse_csr:
        arrays = data.crow_indices(), data.col_indices(), data.values()
    elif data.layout is torch.sparse_csc:
        arrays = data.ccol_indices(), data.row_indices(), data.values()
    else:
        return None, None
    states = tuple(map(tensor_state, arrays))
    return (None if None in states else data), states


def _of_scipy(data: Any) -> tuple[Any, Any]:
    names = {"csr": ("indptr", "indices", "data"), "csc": ("indptr", "indices", "data"), "coo": ("row", "col", "data")}
    if data.format not in names:
        return None, None
    return data, (data.format, data.shape, *(tensor_state(getattr(data, name)) for name in names[data.format]))


def _of_pyg(data: Any) -> tuple[Any, Any]:
    values = [(store._key, name, value) for store in data.stores for name, value in store.items()]
    return data, [(key, name, _of_attribute(value)) for key, name, value in values]


def _of_attribute(value: Any) -> Any:
    if isinstance(value, Tensor):
        return Identity(value), tensor_state(value)
    return value if isinstance(value, (int, str)) else type(value)  # what is neither does not reach the graph


def _of_networkx(data: Any) -> tuple[Any, Any]:
    """networkx empties this dict at every change of the graph."""
    cache = getattr(data, "__networkx_cache__", None)
    return (None, None) if cache is None else (data, cache.setdefault("gnnlib", object()))


FINGERPRINTS: dict[str, Callable[[Any], tuple[Any, Any]]] = {
    "edge_index": _of_edge_index,
    "pair": _of_pair,
    "torch.sparse": _of_sparse,
    "scipy": _of_scipy,
    "torch_geometric.Data": _of_pyg,
    "torch_geometric.HeteroData": _of_pyg,
    "networkx": _of_networkx,
}
