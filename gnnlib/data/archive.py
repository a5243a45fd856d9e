"""Flat graphs on disk: one file of columns that is memory-mapped when read, and a note of what they are.

The folder of a store holds ``columns.bin``, every array of `FlatGraphs` one after the other, and ``store.json``, which
is written last: what the store was made of, and each array's type, shape and place. While a store is being made its
graphs are in parts, each a file by itself.
"""

import json
import math
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from torch import Tensor

from gnnlib._utils.files import atomic_write, spread_checksum
from gnnlib.data.flat import FlatGraphs, index_type

__all__ = ["damage", "join", "note", "read", "save_part"]

MAGIC, VERSION = "gnnlib graphs", 1
ALIGN = 64  # bytes: where a column may begin
ROWS = {"ndata": "nodes", "starts": "nodes", "edata": "edges", "ends": "edges"}
Arrays = Mapping[str, np.ndarray]


def save_part(path: Path, flat: FlatGraphs) -> None:
    """Some graphs as a file that is there whole or not at all."""
    columns = {f"{group}.{name}": value for group in ROWS for name, value in getattr(flat, group).items()}
    with atomic_write(path) as part, open(part, "wb") as file:
        np.savez(file, nodes=flat.nodes, edges=flat.edges, **{name: value.numpy() for name, value in columns.items()})


def join(folder: Path, parts: Sequence[Path], about: dict[str, Any], labels: Tensor | None = None) -> None:
    """Writes the graphs of all parts, in this order, as a store. Holds one part at a time."""
    sizes: dict[str, list[np.ndarray]] = {"nodes": [np.zeros(1, np.int64)], "edges": [np.zeros(1, np.int64)]}
    for part in parts:
        with np.load(part) as arrays:
            for rows, found in sizes.items():
                found.append(np.diff(arrays[rows]))
    whole = {rows: np.concatenate(found).cumsum() for rows, found in sizes.items()}
    with np.load(parts[0]) as arrays:
        like = {name: arrays[name] for name in arrays.files if name not in whole}
    columns = _layout(whole | ({} if labels is None else {"labels": labels.numpy()}), like)
    size = max(column["place"] + _room(column) for column in columns.values())
    with atomic_write(folder / "columns.bin") as path:
        with open(path, "wb") as file:  # not mapped: its pages would count as this process's memory
            file.truncate(size)
            for name, value in whole.items():
                _put(file, columns[name], 0, value)
            if labels is not None:
                _put(file, columns["labels"], 0, labels.numpy())
            start = dict.fromkeys(sizes, 0)
            for part in parts:
                with np.load(part) as arrays:
                    for name in like:
                        _put(file, columns[name], start[ROWS[name.split(".")[0]]], arrays[name])
                    start = {rows: start[rows] + int(arrays[rows][-1]) for rows in start}
        checksum = spread_checksum(path)
    text = {"magic": MAGIC, "version": VERSION, **about, "bytes": size, "checksum": checksum, "columns": columns}
    with atomic_write(folder / "store.json") as path:
        path.write_text(json.dumps(text, indent=1) + "\n")


def _put(file: BinaryIO, column: dict[str, Any], first: int, rows: np.ndarray) -> None:
    """Writes some rows of a column, the first of which has this number."""
    rows = np.ascontiguousarray(rows, column["dtype"])
    file.seek(column["place"] + first * math.prod(column["shape"][1:]) * rows.itemsize)
    file.write(rows.data)


def _layout(whole: Arrays, like: Arrays) -> dict[str, dict[str, Any]]:
    """Type, shape and place of each column: of some the whole is given, of the others a part, and the bounds in whole
    say how long they are."""
    small = index_type(*(torch.from_numpy(whole[rows]) for rows in ("nodes", "edges")))
    columns: dict[str, dict[str, Any]] = {}
    place = 0
    for name, array in {**whole, **like}.items():
        group = name.split(".")[0]
        shape = array.shape if name in whole else (int(whole[ROWS[group]][-1]), *array.shape[1:])
        dtype = str(small).removeprefix("torch.") if group in ("starts", "ends") else array.dtype.name
        columns[name] = {"dtype": dtype, "shape": shape, "place": place}
        place += _room(columns[name])
    return columns


def _room(column: dict[str, Any]) -> int:
    """Bytes, up to where the next one may begin."""
    return -(-math.prod(column["shape"]) * np.dtype(column["dtype"]).itemsize // ALIGN) * ALIGN


def note(folder: Path) -> dict[str, Any]:
    """What is written in ``store.json``: an empty dictionary where it cannot be read."""
    try:
        found = json.loads((folder / "store.json").read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def damage(folder: Path) -> str | None:
    """What is wrong with a store, or None. The checksum covers 4 MiB, spread over the whole."""
    if not (folder / "store.json").exists():
        return "expected store.json, which is written last, got none"
    expected = {"magic": MAGIC, "version": VERSION}
    found = note(folder)
    if {name: found.get(name) for name in expected} != expected:
        return f"store.json: expected {expected}, got { ({name: found.get(name) for name in expected}) }"
    if missing := {"bytes", "checksum", "columns"} - found.keys():
        return f"store.json: expected {', '.join(sorted(missing))}, got {', '.join(found)}"
    path = folder / "columns.bin"
    size = path.stat().st_size if path.exists() else 0
    if size != found["bytes"]:
        return f"{path.name}: expected {found['bytes']} bytes, got {size}"
    if (sums := spread_checksum(path)) != found["checksum"]:
        return f"{path.name}: expected checksum {found['checksum']}, got {sums}"
    return None


def read(folder: Path) -> tuple[FlatGraphs, Tensor | None]:
    """The graphs of a store, memory-mapped, and a copy of their labels.

    Raises: ValueError for a folder that holds no store, or a damaged one.
    """
    if wrong := damage(folder):
        raise ValueError(f"{folder}: expected a whole store of graphs; {wrong}")
    data = np.memmap(folder / "columns.bin", np.uint8, "r")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")  # nobody writes into these
        columns = {name: torch.from_numpy(view) for name, view in _views(data, note(folder)["columns"]).items()}

    def group(prefix: str) -> dict[str, Tensor]:
        return {name.removeprefix(prefix): value for name, value in columns.items() if name.startswith(prefix)}

    flat = FlatGraphs(
        types=("_N", "_E", "_N"),
        idtype=torch.int64,
        nodes=columns["nodes"],
        edges=columns["edges"],
        ndata=group("ndata."),
        edata=group("edata."),
        starts=group("starts."),
        ends=group("ends."),
    )
    return flat, columns["labels"].clone() if "labels" in columns else None


def _views(data: np.ndarray, columns: dict[str, Any]) -> dict[str, np.ndarray]:
    """Each column's rows in the bytes of all."""
    views = {}
    for name, column in columns.items():
        size = math.prod(column["shape"]) * np.dtype(column["dtype"]).itemsize
        raw = data[column["place"] : column["place"] + size]
        views[name] = raw.view(column["dtype"]).reshape(column["shape"])
    return views
