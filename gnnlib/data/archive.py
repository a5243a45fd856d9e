"""Graph stores on disk: one memory-mapped file of columns and a JSON header.

The folder of a store has ``columns.bin``, the concatenated arrays of `FlatGraphs`, and ``store.json``, written last:
what the store depends on, and the type, shape and offset of every array. During a conversion the graphs are in parts,
one file each.
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

__all__ = ["damage", "join", "read", "read_header", "save_part"]

MAGIC, VERSION = "gnnlib graphs", 1
ALIGN = 64  # bytes
ROWS = {"ndata": "nodes", "starts": "nodes", "edata": "edges", "ends": "edges"}
Arrays = Mapping[str, np.ndarray]


def save_part(path: Path, flat: FlatGraphs) -> None:
    """Write some graphs to a file, which appears complete or not at all."""
    columns = {f"{group}.{name}": value for group in ROWS for name, value in getattr(flat, group).items()}
    with atomic_write(path) as part, open(part, "wb") as file:
        np.savez(file, nodes=flat.nodes, edges=flat.edges, **{name: value.numpy() for name, value in columns.items()})


def join(folder: Path, parts: Sequence[Path], header: dict[str, Any], labels: Tensor | None = None) -> None:
    """Write the graphs of all parts, in this order, as a store. One part at a time is in memory."""
    sizes: dict[str, list[np.ndarray]] = {"nodes": [np.zeros(1, np.int64)], "edges": [np.zeros(1, np.int64)]}
    for part in parts:
        with np.load(part) as arrays:
            for rows, lengths in sizes.items():
                lengths.append(np.diff(arrays[rows]))
    bounds = {rows: np.concatenate(lengths).cumsum() for rows, lengths in sizes.items()}
    with np.load(parts[0]) as arrays:
        example = {name: arrays[name] for name in arrays.files if name not in bounds}
    columns = _layout(bounds | ({} if labels is None else {"labels": labels.numpy()}), example)
    size = max(column["place"] + _aligned_size(column) for column in columns.values())
    with atomic_write(folder / "columns.bin") as path:
        with open(path, "wb") as file:  # not mapped, so that its pages do not count as memory of this process
            file.truncate(size)
            for name, value in bounds.items():
                _write(file, columns[name], 0, value)
            if labels is not None:
                _write(file, columns["labels"], 0, labels.numpy())
            start = dict.fromkeys(sizes, 0)
            for part in parts:
                with np.load(part) as arrays:
                    for name in example:
                        _write(file, columns[name], start[ROWS[name.split(".")[0]]], arrays[name])
                    start = {rows: start[rows] + int(arrays[rows][-1]) for rows in start}
        checksum = spread_checksum(path)
    text = {"magic": MAGIC, "version": VERSION, **header, "bytes": size, "checksum": checksum, "columns": columns}
    with atomic_write(folder / "store.json") as path:
        path.write_text(json.dumps(text, indent=1) + "\n")


def _write(file: BinaryIO, column: dict[str, Any], first: int, rows: np.ndarray) -> None:
    """Write rows of a column, from row ``first`` on."""
    rows = np.ascontiguousarray(rows, column["dtype"])
    file.seek(column["place"] + first * math.prod(column["shape"][1:]) * rows.itemsize)
    file.write(rows.data)


def _layout(complete: Arrays, example: Arrays) -> dict[str, dict[str, Any]]:
    """Type, shape and offset of every column: of ``complete`` arrays, and of others of which ``example`` has one part
    and whose lengths are the last bounds in ``complete``."""
    small = index_type(*(torch.from_numpy(complete[rows]) for rows in ("nodes", "edges")))
    columns: dict[str, dict[str, Any]] = {}
    place = 0
    for name, array in {**complete, **example}.items():
        group = name.split(".")[0]
        shape = array.shape if name in complete else (int(complete[ROWS[group]][-1]), *array.shape[1:])
        dtype = str(small).removeprefix("torch.") if group in ("starts", "ends") else array.dtype.name
        columns[name] = {"dtype": dtype, "shape": shape, "place": place}
        place += _aligned_size(columns[name])
    return columns


def _aligned_size(column: dict[str, Any]) -> int:
    """The size of a column in bytes, rounded up to the alignment."""
    return -(-math.prod(column["shape"]) * np.dtype(column["dtype"]).itemsize // ALIGN) * ALIGN


def read_header(folder: Path) -> dict[str, Any]:
    """The content of ``store.json``; empty if it cannot be read."""
    try:
        header = json.loads((folder / "store.json").read_text())
    except (OSError, ValueError):
        return {}
    return header if isinstance(header, dict) else {}


def damage(folder: Path) -> str | None:
    """The damage of a store, or None. The checksum covers 4 MiB, spread over the file."""
    if not (folder / "store.json").exists():
        return "expected store.json, which is written last, got none"
    expected = {"magic": MAGIC, "version": VERSION}
    header = read_header(folder)
    if {name: header.get(name) for name in expected} != expected:
        return f"store.json: expected {expected}, got { ({name: header.get(name) for name in expected}) }"
    if missing := {"bytes", "checksum", "columns"} - header.keys():
        return f"store.json: expected {', '.join(sorted(missing))}, got {', '.join(header)}"
    path = folder / "columns.bin"
    size = path.stat().st_size if path.exists() else 0
    if size != header["bytes"]:
        return f"{path.name}: expected {header['bytes']} bytes, got {size}"
    if (sums := spread_checksum(path)) != header["checksum"]:
        return f"{path.name}: expected checksum {header['checksum']}, got {sums}"
    return None


def read(folder: Path) -> tuple[FlatGraphs, Tensor | None]:
    """The memory-mapped graphs of a store, and a copy of their labels.

    Raises:
        ValueError: if the folder has no store, or a damaged one.
    """
    if error := damage(folder):
        raise ValueError(f"{folder}: expected an intact store of graphs; {error}")
    data = np.memmap(folder / "columns.bin", np.uint8, "r")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")  # nothing writes to these
        columns = {name: torch.from_numpy(view) for name, view in _views(data, read_header(folder)["columns"]).items()}

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
    """The columns as views of the file."""
    views = {}
    for name, column in columns.items():
        size = math.prod(column["shape"]) * np.dtype(column["dtype"]).itemsize
        raw = data[column["place"] : column["place"] + size]
        views[name] = raw.view(column["dtype"]).reshape(column["shape"])
    return views
