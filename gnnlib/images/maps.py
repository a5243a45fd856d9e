"""Label maps of a store: from the pixels of every image to the nodes of its graph.

The maps are in two files beside the graphs: ``label_maps.npy``, all maps end to end, and ``label_map_shapes.npy``, the
height, width and CRC-32 of each. A map is verified when it is read.
"""

import os
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gnnlib._utils.calls import names_checked
from gnnlib._utils.files import atomic_write, spread_checksum
from gnnlib._utils.npy import read_npy_header
from gnnlib.data import archive

__all__ = ["LabelMaps", "beside", "damage", "join", "label_maps", "save_part"]

VALUES, SHAPES = "label_maps.npy", "label_map_shapes.npy"


@names_checked()
class LabelMaps(Sequence):
    """The label maps of a store's graphs, read from the file one by one, as :func:`label_maps` returns them.

    Shapes:
        - item: (H, W) int64, the node of each pixel, -1 outside a mask

    Raises:
        ValueError: for a damaged map, when it is read.
    """

    def __init__(self, path: Path, dtype: np.dtype, start: int, shapes: np.ndarray, checksums: np.ndarray):
        self._path, self._dtype, self._shapes, self._checksums = path, dtype, shapes, checksums
        self._place = start + dtype.itemsize * np.concatenate([[0], shapes.prod(1).cumsum()])

    def __len__(self) -> int:
        return len(self._shapes)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[i] for i in range(len(self))[index]]
        number = range(len(self))[index]
        first, last = map(int, self._place[number : number + 2])
        with open(self._path, "rb") as file:
            file.seek(first)
            content = file.read(last - first)
        if len(content) != last - first or zlib.crc32(content) != self._checksums[number]:
            raise ValueError(f"{self._path}: expected map {number} as it was written, got a damaged one")
        return torch.from_numpy(np.frombuffer(content, self._dtype).astype(np.int64).reshape(self._shapes[number]))


@names_checked()
def label_maps(folder: str | os.PathLike[str]) -> LabelMaps:
    """The label maps that :func:`~gnnlib.images.images_to_store` kept, for :func:`~gnnlib.images.paint`.

    Args:
        folder: of the store.

    Returns:
        A sequence of one map per graph.

    Raises:
        FileNotFoundError: if the store has no label maps.
        ValueError: if they are damaged, or there is no store.

    Example:
        >>> import tempfile
        >>> import numpy as np
        >>> from gnnlib.images import images_to_store, label_maps, paint, recipes
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     store = images_to_store(np.zeros((5, 28, 28)), recipes.avelar, folder, label_maps=True)
        ...     paint(label_maps(folder)[3], store[3].ndata["feat"]).shape
        torch.Size([28, 28, 3])
    """
    folder = Path(folder).expanduser()
    try:
        has_maps, error = "label_maps" in archive.read_header(folder), damage(folder)
    except ValueError as damaged:
        raise ValueError(f"{folder}: expected an intact store of graphs; {damaged}") from damaged
    if not has_maps:
        raise FileNotFoundError(
            f"{folder}: expected a store with label maps, got none; convert with images_to_store(label_maps=True)"
        )
    if error:
        raise ValueError(f"{folder}: expected intact label maps; {error}")
    return _open(folder)


def damage(folder: Path) -> str | None:
    """The damage of the label maps, or None, also of a store without. Values are verified when they are read."""
    header = archive.read_header(folder)
    if "label_maps" not in header:
        return None
    for path in (folder / VALUES, folder / SHAPES):
        if not path.is_file():
            return f"expected {path.name}, got none"
    expected, sums = header.get("label_maps_checksum"), _checksums(folder)
    if sums != expected:
        return f"{VALUES}: expected checksums {expected}, got {sums}"
    try:
        _open(folder)
    except ValueError as error:
        return str(error)
    return None


def _open(folder: Path) -> LabelMaps:
    """Raises: ValueError: if the shapes are not those of the values"""
    table = np.load(folder / SHAPES)
    if table.dtype != np.int64 or table.shape[1:] != (3,) or (table < 0).any() or (table >= 2**32).any():
        raise ValueError(f"{SHAPES}: expected heights, widths and checksums, got {table.dtype} {table.shape}")
    with open(folder / VALUES, "rb") as file:
        shape, _, dtype = read_npy_header(file)
        start, count = file.tell(), sum(int(height) * int(width) for height, width, _ in table)
    if shape != (count,) or dtype not in (np.int16, np.int32):
        raise ValueError(f"{VALUES}: expected {count} values of int16 or int32, got {dtype} {shape}")
    return LabelMaps(folder / VALUES, dtype, start, table[:, :2], table[:, 2])


def _checksums(folder: Path) -> list[int]:
    return [spread_checksum(folder / VALUES), zlib.crc32((folder / SHAPES).read_bytes())]


def save_part(part: Path, maps: Sequence[np.ndarray]) -> None:
    """Write the maps of some images, beside the file of their graphs."""
    with atomic_write(beside(part)) as path, open(path, "wb") as file:
        np.savez(file, values=np.concatenate([one.ravel() for one in maps]), shapes=[one.shape for one in maps])


def beside(part: Path) -> Path:
    """The file of the maps of a part."""
    return part.with_name(f"{part.stem}.maps")


def join(folder: Path, parts: Sequence[Path]) -> list[int]:
    """Write the maps of all parts, in this order; return checksums. One part at a time is in memory."""
    shapes = np.concatenate([arrays["shapes"] for arrays in _load(parts)])
    last = max(int(arrays["values"].max()) for arrays in _load(parts))
    dtype = np.dtype(np.int16 if last < 2**15 else np.int32)
    header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False}
    with atomic_write(folder / VALUES) as path, open(path, "wb") as file:
        np.lib.format.write_array_header_2_0(file, header | {"shape": (int(shapes.prod(1).sum()),)})
        checksums = []
        for arrays in _load(parts):
            values = arrays["values"].astype(dtype)
            file.write(values.data)
            maps = np.split(values, arrays["shapes"].prod(1).cumsum()[:-1])
            checksums += [zlib.crc32(np.ascontiguousarray(one).data) for one in maps]
    with atomic_write(folder / SHAPES) as path, open(path, "wb") as file:
        np.save(file, np.column_stack([shapes, checksums]).astype(np.int64))
    return _checksums(folder)


def _load(parts: Sequence[Path]) -> Iterator[dict[str, np.ndarray]]:
    for part in parts:
        with np.load(beside(part)) as arrays:
            yield dict(arrays)
