"""The files of an OGB task: names, locations and consistency checks."""

import csv
import gzip
import hashlib
import importlib.util
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from gnnlib._utils.npy import read_npy_header
from gnnlib.datasets.archives import BROKEN, open_zip
from gnnlib.datasets.files import (
    DownloadError,
    Folder,
    FormatError,
    cache_dir,
    cached,
    data_dir,
    digest,
    find,
)

__all__ = ["PAPER", "Files", "Row", "check", "find_files", "has_types", "is_binary", "master", "split_ids"]

CHUNK = 2**20  # bytes
PARTS = ("train", "valid", "test")
PART_FILES = tuple(f"/{part}.csv.gz" for part in PARTS)
RENAMED = {"raw/node_species.csv.gz": "raw/species.csv.gz"}  # as published, before OGB's loader renames it
ARRAYS = {"num-node-list": "num_nodes_list", "num-edge-list": "num_edges_list", "edge": "edge_index"}  # in an npz
Row = dict[str, str]  # a task in OGB's table
# The only task with several node types, ogbn-mag: its relations, and the type with features, labels and a split.
PAPER = "paper"
RELATIONS = (
    ("author", "affiliated_with", "institution"),
    ("author", "writes", PAPER),
    (PAPER, "cites", PAPER),
    (PAPER, "has_topic", "field_of_study"),
)


class Files(NamedTuple):
    """``paths`` by their names in OGB's layout, such as ``raw/edge.csv.gz``; ``origin`` is the path in error
    messages."""

    origin: Path
    paths: dict[str, Path]

    def key(self) -> str:
        """A hash of their content."""
        return hashlib.sha256("".join(map(digest, self.paths.values())).encode()).hexdigest()[:32]

    def link(self, folder: Path) -> None:
        """Create a folder with links to the files, which OGB's readers may rename."""
        for name, path in self.paths.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).symlink_to(path)


def master(package: str) -> dict[str, Row]:
    """OGB's table of the tasks of ``ogb.graphproppred`` or ``ogb.nodeproppred``, by name; empty without ogb."""
    spec = importlib.util.find_spec("ogb")
    if spec is None or spec.origin is None:
        return {}
    with open(Path(spec.origin).with_name(package) / "master.csv", newline="") as file:
        names, *rows = csv.reader(file)
    return {name: {row[0]: row[i] for row in rows} for i, name in enumerate(names) if name}


def find_files(name: str, row: Row, label: str, data: Folder) -> Files:
    """The files of a task, in the data directory or from the published zip, which is downloaded if necessary.

    Raises:
        FileNotFoundError: if files are missing in the data directory.
        DownloadError: if the files are not found and the download fails.
        FormatError: if the zip is damaged.
    """
    raw = ["data.npz", f"{label}-label.npz"] if is_binary(row) else [f"{table}.csv.gz" for table in _tables(row, label)]
    split = [*PARTS]
    if has_types(row):
        raw += [f"{table}.csv.gz" for table in ("num-node-dict", "triplet-type-list", "nodetype-has-label")]
        split = ["nodetype-has-split", *(f"{PAPER}/{part}" for part in PARTS)]
    names = [*(f"raw/{file}" for file in raw), *(f"split/{row['split']}/{part}.csv.gz" for part in split)]
    top, folder = data_dir(data), name.replace("-", "_")
    places = [top.absolute() / place for place in (f"ogb/{folder}", folder)] if top else []
    for place in places:
        if place.is_dir():
            return _in_folder(place, names, row)
    url = row["url"].replace("http:", "https:")
    try:
        return _in_zip(find(f"ogb/{url.rpartition('/')[2]}", data, url), names, row)
    except DownloadError as error:
        local = f"no folder {' or '.join(map(str, places))}; " if places else ""
        raise DownloadError(f"{name}: {local}{error}") from error


def check(files: Files, row: Row, label: str) -> None:
    """Raise FormatError unless the files are readable and consistent. OGB does not check the lengths of tables."""
    tables = _tables(row, label)
    read = _in_arrays if is_binary(row) else _of_types if has_types(row) else _in_lines
    rows, sizes = read(files, list(tables))
    target = PAPER if has_types(row) else label
    for table, kind in tables.items():
        if rows[table] != sizes[kind]:
            raise FormatError(f"{files.origin}: {table}: expected {sizes[kind]} rows, got {rows[table]}")
    ids = np.concatenate([part.numpy() for part in split_ids(files).values()])
    if not len(ids) or len(np.unique(ids)) < len(ids) or ids.min() < 0 or ids.max() >= sizes[target]:
        actual = f"{len(ids)} ids" + (f" from {ids.min()} to {ids.max()}" if len(ids) else "")
        raise FormatError(
            f"{files.origin}: expected a split of {target}s 0 to {sizes[target] - 1}, none twice, got {actual}"
        )


def split_ids(files: Files) -> dict[str, Tensor]:
    """The graphs or nodes of each part, int64."""
    names = [next(name for name in files.paths if name.endswith(file)) for file in PART_FILES]
    return {part: torch.from_numpy(_integers(files, name)) for part, name in zip(PARTS, names, strict=True)}


def _in_lines(files: Files, tables: list[str]) -> tuple[dict[str, int], dict[str, int]]:
    """The number of rows of each csv table, and the numbers of graphs, nodes and edges."""
    rows = _lines(files, tables)
    nodes, edges = (int(_integers(files, f"raw/num-{end}-list.csv.gz").sum()) for end in ("node", "edge"))
    return rows, {"graph": rows["num-node-list"], "node": nodes, "edge": edges}


def _of_types(files: Files, tables: list[str]) -> tuple[dict[str, int], dict[str, int]]:
    """The same for every node type and relation; one graph."""
    sizes = {"graph": 1}
    with _reading(files, "raw/num-node-dict.csv.gz") as path, gzip.open(path, "rt") as lines:
        sizes |= {name: int(number) for name, number in next(csv.DictReader(lines), {}).items()}
    if missing := {end for head, _, tail in RELATIONS for end in (head, tail)} - sizes.keys():
        raise FormatError(f"{files.origin}: num-node-dict: expected a number of each {', '.join(sorted(missing))}")
    for relation in map("___".join, RELATIONS):
        sizes[relation] = int(_integers(files, f"raw/relations/{relation}/num-edge-list.csv.gz").sum())
    return _lines(files, tables), sizes


def _lines(files: Files, tables: list[str]) -> dict[str, int]:
    rows = {}
    for table in tables:
        with _reading(files, f"raw/{table}.csv.gz") as path, gzip.open(path) as lines:
            rows[table] = _count_lines(lines)
    return rows


def _count_lines(file: gzip.GzipFile) -> int:
    """The number of lines, in bounded memory; the last one may lack its end."""
    count, last = 0, b"\n"
    while chunk := file.read(CHUNK):
        count, last = count + chunk.count(b"\n"), chunk[-1:]
    return count + (last != b"\n")


def _in_arrays(files: Files, tables: list[str]) -> tuple[dict[str, int], dict[str, int]]:
    """The same for arrays in npz files, from their headers."""
    shapes = {}
    for name in files.paths:
        if name.endswith(".npz"):
            with _reading(files, name) as path, zipfile.ZipFile(path) as archive:
                for member in archive.namelist():
                    with archive.open(member) as array:
                        shapes[member.removesuffix(".npy")] = read_npy_header(array)[0]
    with _reading(files, "raw/data.npz") as path, np.load(path) as arrays:
        nodes, edges = (int(arrays[f"num_{end}_list"].sum()) for end in ("nodes", "edges"))
        rows = {table: shapes[ARRAYS.get(table, table.replace("-", "_"))][table == "edge"] for table in tables}
    return rows, {"graph": rows["num-node-list"], "node": nodes, "edge": edges}


def _integers(files: Files, name: str) -> np.ndarray:
    with _reading(files, name) as path:
        words = gzip.decompress(path.read_bytes()).split()
    try:
        return np.array(words, np.int64)
    except ValueError as error:
        raise FormatError(f"{files.origin}: {name}: expected one number per line ({error})") from error


@contextmanager
def _reading(files: Files, name: str) -> Iterator[Path]:
    try:
        yield files.paths[name]
    except FormatError:
        raise
    except BROKEN as error:
        raise FormatError(f"{files.origin}: {name} is truncated or damaged ({error})") from error


def has_types(row: Row) -> bool:
    """Whether a task's graph has several types of nodes and edges."""
    return row.get("is hetero") == "True"  # a column that tasks on graphs lack


def is_binary(row: Row) -> bool:
    """Whether a task's tables are arrays in npz files."""
    return row["binary"] == "True"


def _release(row: Row) -> str:
    return f"RELEASE_v{row['version']}.txt"


def _tables(row: Row, label: str) -> dict[str, str]:
    """OGB's names of a task's tables, each with the kind that has one row in it; ``label`` is "graph" or "node"."""
    extra = [name for name in row["additional node files"].split(",") if name != "None"]
    if has_types(row):
        return {
            **{
                f"relations/{relation}/{table}": "graph" if table == "num-edge-list" else relation
                for relation in map("___".join, RELATIONS)
                for table in ("num-edge-list", "edge", *row["additional edge files"].split(","))
            },
            **{f"node-feat/{PAPER}/{table}": PAPER for table in ("node-feat", *extra)},
            f"node-label/{PAPER}/{label}-label": PAPER,
        }
    return {
        "num-node-list": "graph",
        "num-edge-list": "graph",
        "edge": "edge",
        **({"edge-feat": "edge"} if row["has_edge_attr"] == "True" else {}),
        **({"node-feat": "node"} if row["has_node_attr"] == "True" else {}),
        **dict.fromkeys(extra, "node"),
        f"{label}-label": label,
    }


def _locate(names: list[str], exists: Callable[[str], bool]) -> dict[str, str]:
    """The name under which each file exists; of missing files, the standard name."""
    return {name: name if exists(name) or name not in RENAMED else RENAMED[name] for name in names}


def _in_folder(place: Path, names: list[str], row: Row) -> Files:
    located = _locate(names, lambda name: (place / name).is_file())
    if missing := [name for name in located.values() if not (place / name).is_file()]:
        raise FileNotFoundError(f"{place}: expected {', '.join(names)}; missing {', '.join(missing)}")
    releases = sorted(path.name for path in place.glob("RELEASE_v*.txt"))
    if releases and _release(row) not in releases:
        raise FormatError(f"{place}: expected {_release(row)}, got {', '.join(releases)}")
    return Files(place, {name: place / actual for name, actual in located.items()})


def _in_zip(path: Path, names: list[str], row: Row) -> Files:
    """Unpack the files into a folder of the cache, named by the SHA-256 of the zip."""
    top = row["download_name"]
    place = cache_dir() / "ogb" / digest(path)[:32] / top
    with open_zip(path, f"a zip with {top}/raw and {top}/split") as members:
        for name, actual in _locate(names, lambda name: f"{top}/{name}" in members).items():
            cached(place / name, partial(members.extract, f"{top}/{actual}"))
    return Files(path, {name: place / name for name in names})
