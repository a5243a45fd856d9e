"""The files of an OGB task: names, locations and consistency checks."""

import csv
import gzip
import hashlib
import importlib.util
import re
import zipfile
from collections.abc import Callable, Iterator, Sequence
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

__all__ = [
    "LINK",
    "PAPER",
    "PARTS",
    "Files",
    "Row",
    "check",
    "find_files",
    "has_types",
    "is_binary",
    "master",
    "split_ids",
]

CHUNK = 2**20  # bytes
PARTS = ("train", "valid", "test")
PART_FILES = tuple(f"/{part}.csv.gz" for part in PARTS)
RENAMED = {"raw/node_species.csv.gz": "raw/species.csv.gz"}  # as published, before OGB's loader renames it
ARRAYS = {"num-node-list": "num_nodes_list", "num-edge-list": "num_edges_list", "edge": "edge_index"}  # in an npz
LINK = "link"  # the label of a task on links, which has none
ENDS = ("node", "edge")
Row = dict[str, str]  # a task in OGB's table
Relation = tuple[str, str, str]
Names = Callable[[Path, Callable[[str], bool], Callable[[str], bytes]], list[str]]
"""Of the origin, whether a file exists, and its content."""
# The only task on nodes of several types, ogbn-mag: its relations, and the type with features, labels and a split.
PAPER = "paper"
RELATIONS: Sequence[Relation] = (
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
    """OGB's table of the tasks of ``ogb.graphproppred``, ``nodeproppred`` or ``linkproppred``, by name; empty without
    ogb."""
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
    names = partial(_file_names, row, label)
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
    tables = _tables(row, label, relations_of(files))
    read = _in_arrays if is_binary(row) else _of_types if has_types(row) else _in_lines
    rows, sizes = read(files, list(tables))
    _check_lengths(files, tables, rows, sizes)
    if label == LINK:
        return
    target = PAPER if has_types(row) else label
    ids = np.concatenate([part.numpy() for part in split_ids(files).values()])
    if not len(ids) or len(np.unique(ids)) < len(ids) or ids.min() < 0 or ids.max() >= sizes[target]:
        actual = f"{len(ids)} ids" + (f" from {ids.min()} to {ids.max()}" if len(ids) else "")
        raise FormatError(
            f"{files.origin}: expected a split of {target}s 0 to {sizes[target] - 1}, none twice, got {actual}"
        )


def _check_lengths(files: Files, tables: dict[str, str], rows: dict[str, int], sizes: dict[str, int]) -> None:
    for table, kind in tables.items():
        if rows[table] != sizes[kind]:
            raise FormatError(f"{files.origin}: {table}: expected {sizes[kind]} rows, got {rows[table]}")


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
    relations = relations_of(files)
    if missing := {end for head, _, tail in relations for end in (head, tail)} - sizes.keys():
        raise FormatError(f"{files.origin}: num-node-dict: expected a number of each {', '.join(sorted(missing))}")
    for relation in map("___".join, relations):
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


def _tables(row: Row, label: str, relations: Sequence[Relation]) -> dict[str, str]:
    """OGB's names of a task's tables, each with the kind that has one row in it; ``label`` is "graph", "node" or
    "link"."""
    extra, edge = ([name for name in row[f"additional {end} files"].split(",") if name != "None"] for end in ENDS)
    if has_types(row):
        tables = {
            f"relations/{relation}/{table}": "graph" if table == "num-edge-list" else relation
            for relation in map("___".join, relations)
            for table in ("num-edge-list", "edge", *edge)
        }
        if label == LINK:
            return tables
        return {
            **tables,
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
        **dict.fromkeys(edge, "edge"),
        **({} if label == LINK else {f"{label}-label": label}),
    }


def _locate(names: list[str], exists: Callable[[str], bool]) -> dict[str, str]:
    """The name under which each file exists; of missing files, the standard name."""
    return {name: name if exists(name) or name not in RENAMED else RENAMED[name] for name in names}


def _file_names(
    row: Row, label: str, origin: Path, exists: Callable[[str], bool], read: Callable[[str], bytes]
) -> list[str]:
    """OGB's names of the files of a task. Of links, the split is one file or three, and the types are in a file."""
    triplets, relations = "raw/triplet-type-list.csv.gz", RELATIONS
    if has_types(row) and label == LINK and exists(triplets):
        relations = _relations(f"{origin}: {triplets}", read(triplets))
    tables = _tables(row, label, relations)
    raw = ["data.npz"] if is_binary(row) else [f"{table}.csv.gz" for table in tables]
    split = [f"{part}.csv.gz" for part in PARTS]
    if is_binary(row) and label != LINK:
        raw.append(f"{label}-label.npz")
    if has_types(row):
        raw += [f"{table}.csv.gz" for table in ("num-node-dict", "triplet-type-list")]
    if has_types(row) and label != LINK:
        raw.append("nodetype-has-label.csv.gz")
        split = ["nodetype-has-split.csv.gz", *(f"{PAPER}/{part}" for part in split)]
    if label == LINK:
        table = "split_dict.pt"
        split = [table] if exists(f"split/{row['split']}/{table}") else [f"{part}.pt" for part in PARTS]
    return [*(f"raw/{file}" for file in raw), *(f"split/{row['split']}/{file}" for file in split)]


def _relations(name: str, content: bytes) -> list[Relation]:
    """The relations in the table of triplets. Their names are those of folders."""
    try:
        rows = [line.split(",") for line in gzip.decompress(content).decode().splitlines()]
    except BROKEN as error:
        raise FormatError(f"{name} is truncated or damaged ({error})") from error
    for row in rows:
        if len(row) != 3 or not all(re.fullmatch(r"[\w-]+", word) for word in row):
            raise FormatError(f"{name}: expected three names in a line, got {','.join(row)!r:.80}")
    return [(head, relation, tail) for head, relation, tail in rows]


def relations_of(files: Files) -> list[Relation]:
    """The relations of a graph with types, those with files of edges."""
    names = [name.split("/")[2] for name in files.paths if re.fullmatch(r"raw/relations/[^/]+/edge\.csv\.gz", name)]
    return [(head, relation, tail) for head, relation, tail in (name.split("___") for name in names)]


def _in_folder(place: Path, names_of: Names, row: Row) -> Files:
    def exists(name: str) -> bool:
        return (place / name).is_file()

    names = names_of(place, exists, lambda name: (place / name).read_bytes())
    located = _locate(names, exists)
    if missing := [name for name in located.values() if not (place / name).is_file()]:
        raise FileNotFoundError(f"{place}: expected {', '.join(names)}; missing {', '.join(missing)}")
    releases = sorted(path.name for path in place.glob("RELEASE_v*.txt"))
    if releases and _release(row) not in releases:
        raise FormatError(f"{place}: expected {_release(row)}, got {', '.join(releases)}")
    return Files(place, {name: place / actual for name, actual in located.items()})


def _in_zip(path: Path, names_of: Names, row: Row) -> Files:
    """Unpack the files into a folder of the cache, named by the SHA-256 of the zip."""
    top = row["download_name"]
    place = cache_dir() / "ogb" / digest(path)[:32] / top
    with open_zip(path, f"a zip with {top}/raw and {top}/split") as members:

        def exists(name: str) -> bool:
            return f"{top}/{name}" in members

        names = names_of(path, exists, lambda name: members.read(f"{top}/{name}"))
        for name, actual in _locate(names, exists).items():
            cached(place / name, partial(members.extract, f"{top}/{actual}"))
    return Files(path, {name: place / name for name in names})
