"""Planetoid (Yang, Cohen, Salakhutdinov, 2016): the citation networks Cora, CiteSeer and PubMed, public split."""

import io
import pickle
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse
import torch

from gnnlib._utils.calls import names_checked
from gnnlib.datasets.files import Folder, FormatError, dataset_name, find
from gnnlib.graph import GraphLike, new_graph

__all__ = ["planetoid", "row_normalise"]

URL = "https://github.com/kimiyoung/planetoid/raw/master/data/"
PARTS = ("y", "allx", "ally", "tx", "ty", "graph", "test.index")
SHA256 = {
    "ind.cora.allx": "9419ba2f26f5c35243db64aba110e0f35a04851609e0dc5433450676ca6b8543",
    "ind.cora.ally": "2b998f5cc7fedc86e7f97ca2498f47a1ffc1462c29e2d578b23bf3f62b6e7d71",
    "ind.cora.graph": "58f13302f39dde8852dad6fe6d15b89b077b6d7f837626bce671ef80344b383d",
    "ind.cora.test.index": "297ce89af2b51a6a194181c7dbe1796c6a1cf9cd9349a88383b1b1e227867875",
    "ind.cora.tx": "b9afbaa4a400df991f6f02ef677e1e44da55ffc04801fd02f9e673987829226a",
    "ind.cora.ty": "41f5ac76596a1699cc33f53084a2419e92961c42bb75f36fc38e616d348532ad",
    "ind.cora.y": "94465c14eb53e04ca262198dcbb2521ee8af60fb3f3d546cd6ca24a511b0e7d1",
    "ind.pubmed.allx": "508e538e2abdccdd54c4d3e9f49d638b4af7107d85845f66ddea5a5152658b7e",
    "ind.pubmed.ally": "0c37bbe3b5014ec365e9d393cf4791925e5ed94fb194305d74f064a8d7b50f0e",
    "ind.pubmed.graph": "5b89f0036ca22909471f1e6558eb42fa06e0c730a577bde5b058b40638f81dc9",
    "ind.pubmed.test.index": "b101d421688bbaecbd82e8a18f1e282378d6830f3a37666f28ebc47f844341b5",
    "ind.pubmed.tx": "4eb5f5d0f30f26497eb0ac6ac9719d09c67e284f1ed0385c93f3ef27a671da3d",
    "ind.pubmed.ty": "ee2e0d4819d9fbcc403689c3bf2e49face401b605932f093bc58ab6461130fdd",
    "ind.pubmed.y": "e6c807633307a07ed659249006536a147c7999c797f11a2560752990181b41b3",
}
NUM_VAL = 500

_reconstruct: Any = np.empty(0).__reduce__()[0]  # the function in numpy's pickles, whose module depends on the version
ALLOWED = {
    ("__builtin__", "list"): list,
    ("builtins", "list"): list,
    ("collections", "defaultdict"): defaultdict,
    ("numpy", "dtype"): np.dtype,
    ("numpy", "ndarray"): np.ndarray,
    ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy._core.multiarray", "_reconstruct"): _reconstruct,
    ("scipy.sparse.csr", "csr_matrix"): scipy.sparse.csr_matrix,
    ("scipy.sparse._csr", "csr_matrix"): scipy.sparse.csr_matrix,
}


@names_checked(root="data=", raw_dir="data=")
def planetoid(name: str, data: Folder = None) -> GraphLike:
    """Cora, CiteSeer or PubMed with the public split of Yang, Cohen, Salakhutdinov 2016 (arXiv 1603.08861).

    The graph is simple and undirected: each edge once in both directions, no self-loops. CiteSeer's test ids have gaps:
    a missing id becomes a node without edges, with zero features and label -1, in no mask, so that there are 3327 nodes
    as in the literature.

    Args:
        name: ``"cora"``, ``"citeseer"`` or ``"pubmed"``, in capital or small letters.
        data: a directory with the ``ind.NAME.*`` files, in it or in ``planetoid/``; else ``GNNLIB_DATA``, else
            downloaded.

    Returns:
        A graph of N nodes with ndata ``feat`` (N, F) float32, as published (see `row_normalise`); ``label`` (N,) int64;
        ``train_mask`` (20 nodes per class), ``val_mask`` (500 nodes), ``test_mask`` (1000 nodes), all (N,) bool.

    Raises:
        ValueError: if the name is unknown.
        FileNotFoundError: if the data directory does not exist.
        DownloadError: if a file is not found and the download fails.
        FormatError: if a pickle is truncated or names a class outside an allowlist, or the arrays are inconsistent.

    Example:
        >>> from gnnlib.datasets import planetoid
        >>> planetoid("cora").ndata["feat"].shape  # doctest: +SKIP
        torch.Size([2708, 1433])
    """
    name = dataset_name("planetoid", name, ("cora", "citeseer", "pubmed"))
    names = {part: f"ind.{name}.{part}" for part in PARTS}
    files = {part: find(f"planetoid/{f}", data, URL + f, SHA256.get(f)) for part, f in names.items()}
    allx, tx = (_features(files[part]) for part in ("allx", "tx"))
    y, ally, ty = (_one_hot(files[part]) for part in ("y", "ally", "ty"))
    test = _test_index(files["test.index"])
    for part, rows, expected in (("ally", ally, len(allx)), ("ty", ty, len(tx)), ("test.index", test, len(tx))):
        if len(rows) != expected:
            raise FormatError(f"{files[part]}: expected {expected} rows, got {len(rows)}")
    if tx.shape[1] != allx.shape[1] or not y.shape[1] == ally.shape[1] == ty.shape[1]:
        raise FormatError(
            f"{files['tx'].parent}: expected one width of features and one of labels, got {tx.shape[1]} (tx), "
            f"{allx.shape[1]} (allx); {y.shape[1]} (y), {ally.shape[1]} (ally), {ty.shape[1]} (ty)"
        )
    if len(y) + NUM_VAL > len(allx) or test.min() < len(allx) or len(np.unique(test)) != len(test):
        raise FormatError(
            f"{files['test.index']}: expected {len(y)} training nodes, {NUM_VAL} for validation and distinct test ids "
            f"from {len(allx)} on, got {len(allx)} rows in allx and ids from {test.min()}, "
            f"{len(test) - len(np.unique(test))} of them twice"
        )
    n = int(test.max()) + 1
    graph = _simple_graph(files["graph"], n)
    feat, label = np.zeros((n, allx.shape[1]), np.float32), np.full(n, -1)
    feat[: len(allx)], feat[test] = allx, tx
    label[: len(ally)], label[test] = _classes(ally), _classes(ty)
    graph.ndata["feat"], graph.ndata["label"] = torch.from_numpy(feat), torch.from_numpy(label)
    for mask, ids in (("train", np.arange(len(y))), ("val", np.arange(len(y), len(y) + NUM_VAL)), ("test", test)):
        graph.ndata[f"{mask}_mask"] = torch.zeros(n, dtype=torch.bool).index_fill_(0, torch.from_numpy(ids), True)
    return graph


@names_checked()
def row_normalise(feat: torch.Tensor) -> torch.Tensor:
    """Divide each row (N, F) by its sum, as Kipf and Welling 2017 (arXiv 1609.02907) do; rows of zeros are unchanged.

    Example:
        >>> import torch
        >>> from gnnlib.datasets import row_normalise
        >>> row_normalise(torch.tensor([[1.0, 3.0], [0.0, 0.0]]))
        tensor([[0.2500, 0.7500],
                [0.0000, 0.0000]])
    """
    total = feat.sum(1, keepdim=True)
    return feat / total.where(total != 0, torch.ones_like(total))


class _Unpickler(pickle.Unpickler):
    """An unpickler of the classes in Planetoid's files and no others. It imports no module that a file names."""

    def find_class(self, module: str, name: str) -> Any:
        try:
            return ALLOWED[module, name]
        except KeyError:
            raise FormatError(f"{module}.{name}") from None


def _unpickle(path: Path) -> Any:
    try:
        return _Unpickler(io.BytesIO(path.read_bytes()), encoding="latin1").load()
    except FormatError as error:
        allowed = ", ".join(sorted({name for _, name in ALLOWED}))
        raise FormatError(f"{path}: expected a pickle of {allowed} alone, got one that names {error}") from None
    except Exception as error:  # a damaged pickle can raise nearly any error
        raise FormatError(f"{path}: truncated or damaged pickle ({type(error).__name__}: {error})") from error


def _features(path: Path) -> np.ndarray:
    matrix = _unpickle(path)
    try:
        fresh = scipy.sparse.csr_matrix((matrix.data, matrix.indices, matrix.indptr), matrix.shape)
        fresh.check_format(full_check=True)  # indices out of range would read other memory
        return fresh.toarray().astype(np.float32)
    except (AttributeError, TypeError, ValueError) as error:
        raise FormatError(f"{path}: expected a sparse matrix, got {type(matrix).__name__} ({error})") from error


def _one_hot(path: Path) -> np.ndarray:
    array = _unpickle(path)
    if not isinstance(array, np.ndarray) or array.ndim != 2 or array.dtype.kind not in "biuf":
        actual = f"{type(array).__name__} {getattr(array, 'dtype', '')} {getattr(array, 'shape', '')}"
        raise FormatError(f"{path}: expected numbers of shape (rows, classes), got {actual}")
    return array


def _classes(one_hot: np.ndarray) -> np.ndarray:
    """The class of each row, -1 for a row of zeros."""
    return np.where(one_hot.any(1), one_hot.argmax(1), -1)


def _test_index(path: Path) -> np.ndarray:
    try:
        index = np.array(path.read_text("ascii").split(), dtype=np.int64)
    except ValueError as error:
        raise FormatError(f"{path}: expected one node id per line ({error})") from error
    if not len(index):
        raise FormatError(f"{path}: expected one node id per line, got none")
    return index


def _simple_graph(path: Path, n: int) -> GraphLike:
    """The graph of a dictionary node -> neighbours: both directions of each edge, once, and no self-loops."""
    neighbours = _unpickle(path)
    try:
        u = np.repeat(np.array(list(neighbours), np.int64), [len(ids) for ids in neighbours.values()])
        v = np.array([i for ids in neighbours.values() for i in ids], np.int64)
    except (AttributeError, TypeError, ValueError, OverflowError) as error:
        raise FormatError(f"{path}: expected a dictionary of lists of node ids ({error})") from error
    nodes = np.concatenate([u, v])
    if len(nodes) and not 0 <= nodes.min() <= nodes.max() < n:
        raise FormatError(f"{path}: expected node ids from 0 to {n - 1}, got {nodes.min()} to {nodes.max()}")
    u, v = nodes, np.concatenate([v, u])
    codes = np.unique(u[u != v] * n + v[u != v])
    return new_graph(codes // n, codes % n, n)
