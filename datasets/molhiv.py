"""ogbg-molhiv: molecules that inhibit HIV or not, with OGB's own loader, split and evaluator."""

import gzip
import hashlib
import os
import tempfile
import warnings
import zipfile
import zlib
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch

import gnnlib._dgl  # noqa: F401  before ogb imports dgl
from gnnlib._modules import module_as

from .files import Folder, FormatError, atomic_write, cache_dir, cached, data_dir, find

__all__ = ["molhiv"]

URL = "https://snap.stanford.edu/ogb/data/graphproppred/csv_mol_download/hiv.zip"
RAW = [f"raw/{n}.csv.gz" for n in ("edge", "edge-feat", "graph-label", "node-feat", "num-edge-list", "num-node-list")]
SPLIT = [f"split/scaffold/{n}.csv.gz" for n in ("train", "valid", "test")]
PROCESSED = Path("ogbg_molhiv/processed/dgl_data_processed")


def molhiv(data: Folder = None) -> tuple[Any, dict[str, torch.Tensor], Any]:
    """ogbg-molhiv of Hu et al. 2020 (arXiv 2005.00687): 41127 molecules, the scaffold split, ROC-AUC.

    OGB writes beside the files it reads, so they are copied to the user's cache, into a folder named by their content;
    the directory given is only read. The first call converts the molecules, which takes half a minute.

    Args:
        data: a directory with OGB's raw layout in ``ogb/ogbg_molhiv/`` or ``ogbg_molhiv/``, or with ``hiv.zip`` as
            published; else ``GNNLIB_DATA``, else downloaded.

    Returns:
        dataset: ``dataset[i]`` is a pair of a graph and its label (1,), int64: 1 active, 0 not. Graphs have ndata
            ``feat`` (n, 9) and edata ``feat`` (e, 3), int64 codes; each bond is two edges.
        split: ids of the graphs in ``"train"``, ``"valid"`` and ``"test"``, int64.
        evaluator: ``evaluator.eval({"y_true": (n, 1), "y_pred": (n, 1)})["rocauc"]``.

    Raises:
        ImportError: ogb is not installed.
        FileNotFoundError: no such directory, or some of the files are missing; DownloadError if a download failed, too.
        FormatError: a damaged file, or files that do not belong together.

    >>> dataset, split, evaluator = molhiv()  # doctest: +SKIP
    >>> len(dataset), {part: len(ids) for part, ids in split.items()}  # doctest: +SKIP
    (41127, {'train': 32901, 'valid': 4113, 'test': 4113})
    """
    ogb = _import_ogb()
    origin, files = _source(data)
    key = hashlib.sha256(b"".join(hashlib.sha256(files[name]).digest() for name in RAW + SPLIT)).hexdigest()[:16]
    root = cache_dir() / "ogb" / key

    def convert(part: Path) -> None:
        _check(origin, files)
        with tempfile.TemporaryDirectory(dir=part.parent) as scratch, warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="The given NumPy array is not writable", category=UserWarning)
            _lay_out(files, Path(scratch))
            ogb.DglGraphPropPredDataset(name="ogbg-molhiv", root=scratch)
            os.replace(Path(scratch) / PROCESSED, part)

    cached(root / PROCESSED, convert)
    _lay_out(files, root)
    dataset = ogb.DglGraphPropPredDataset(name="ogbg-molhiv", root=str(root))
    return dataset, dataset.get_idx_split(), ogb.Evaluator(name="ogbg-molhiv")


def _source(data: Folder) -> tuple[Path, dict[str, bytes]]:
    """Where the files come from, and the content of each."""
    top = data_dir(data)
    for folder in (top / "ogb" / "ogbg_molhiv", top / "ogbg_molhiv") if top else ():
        if folder.is_dir():
            if missing := [name for name in RAW + SPLIT if not (folder / name).is_file()]:
                raise FileNotFoundError(f"{folder}: expected {', '.join(RAW + SPLIT)}; missing {', '.join(missing)}")
            return folder, {name: (folder / name).read_bytes() for name in RAW + SPLIT}
    path = find("ogb/hiv.zip", data, URL)
    try:
        with zipfile.ZipFile(path) as archive:
            return path, {name: archive.read(f"hiv/{name}") for name in RAW + SPLIT}
    except (KeyError, zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise FormatError(f"{path}: expected a zip with hiv/raw and hiv/split ({error})") from error


def _check(origin: Path, files: dict[str, bytes]) -> None:
    """Raises FormatError unless the files can be read and agree; OGB itself would cut the tables anywhere."""
    texts = {}
    for name, content in files.items():
        try:
            texts[name] = gzip.decompress(content)
        except (OSError, EOFError, zlib.error) as error:
            raise FormatError(f"{origin}: {name} is truncated or damaged ({error})") from error
    rows = {name: len(text.splitlines()) for name, text in texts.items()}

    def numbers(name: str) -> np.ndarray:
        try:
            return np.array(texts[name].split(), np.int64)
        except ValueError as error:
            raise FormatError(f"{origin}: {name}: expected one number a line ({error})") from error

    graphs = rows["raw/num-node-list.csv.gz"]
    nodes, edges = (int(numbers(f"raw/num-{end}-list.csv.gz").sum()) for end in ("node", "edge"))
    for name, count in zip(RAW, (edges, edges, graphs, nodes, graphs, graphs), strict=True):
        if rows[name] != count:
            raise FormatError(f"{origin}: {name}: expected {count} rows, received {rows[name]}")
    ids = np.sort(np.concatenate([numbers(name) for name in SPLIT]))
    if not np.array_equal(ids, np.arange(graphs)):
        received = f"{len(ids)} ids" + (f" from {ids[0]} to {ids[-1]}" if len(ids) else "")
        raise FormatError(f"{origin}: expected a split of graphs 0 to {graphs - 1}, each once, received {received}")


def _lay_out(files: dict[str, bytes], root: Path) -> None:
    """Makes the folder that OGB's loader reads without asking or downloading anything."""
    for name, content in {**files, "RELEASE_v1.txt": b""}.items():
        path = root / "ogbg_molhiv" / name
        if not path.is_file() or path.read_bytes() != content:
            with atomic_write(path) as part:
                part.write_bytes(content)
    (root / PROCESSED).parent.mkdir(exist_ok=True)


def _import_ogb() -> ModuleType:
    """ogb.graphproppred, imported without its question to the package index.

    Where ``outdated`` can be imported, ogb and outdated start threads that ask for the newest version, and the
    interpreter waits for them at its end; without it, ogb does not ask.
    """
    try:
        with module_as("outdated", None), warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="`torch.jit.script` is deprecated", category=DeprecationWarning)
            import ogb.graphproppred
    except ImportError as error:
        raise ImportError("ogbg-molhiv needs ogb: pip install ogb", name="ogb") from error
    return ogb.graphproppred
