"""CIFAR-10 (Krizhevsky, 2009): 50000 + 10000 colour photographs of 32x32 pixels, from the binary version."""

import gzip
import io
import posixpath
import tarfile
import zlib
from pathlib import Path

import numpy as np
import torch

from gnnlib._utils.calls import names_checked
from gnnlib.datasets.files import Folder, FormatError, data_dir, find

__all__ = ["CIFAR10", "cifar10"]

CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
ARCHIVE = "cifar-10-binary.tar.gz"
FOLDER = "cifar-10-batches-bin"
URL = "https://www.cs.toronto.edu/~kriz/" + ARCHIVE
MD5 = "c32a1d4ab5d03f1284b67883e8d87530"
TRAIN = tuple(f"data_batch_{number}.bin" for number in range(1, 6))
ROW = 1 + 3 * 32 * 32  # a label, then red, green and blue, each row by row
CHUNK = 2**16  # bytes
MAX_BYTES = 2**28  # of the unpacked archive, which has 184,390,000 and some


@names_checked()
def cifar10(data: Folder = None, train: bool = True) -> tuple[torch.Tensor, torch.Tensor]:
    """CIFAR-10 (Krizhevsky 2009, "Learning multiple layers of features from tiny images"), with class names `CIFAR10`.

    Args:
        data: a directory with ``cifar-10-batches-bin/`` or ``cifar-10-binary.tar.gz``; else ``GNNLIB_DATA``, else
            downloaded.
        train: the 50000 training images, else the 10000 test images.

    Returns:
        images (n, 3, 32, 32), uint8, red, green and blue, rows from the top; labels (n,), int64, 0 to 9.

    Raises:
        FileNotFoundError: if the data directory does not exist.
        DownloadError: if the files are not found and the download fails.
        FormatError: if a part is missing or truncated, or a label is above 9.

    Example:
        >>> from gnnlib.datasets import CIFAR10, cifar10
        >>> images, labels = cifar10(train=False)  # doctest: +SKIP
        >>> images.shape, CIFAR10[labels[0]]  # doctest: +SKIP
        (torch.Size([10000, 3, 32, 32]), 'cat')
    """
    names = TRAIN if train else ("test_batch.bin",)
    root = data_dir(data)
    folder = root / FOLDER if root is not None else None
    parts = (
        _files(folder, names)
        if folder is not None and folder.is_dir()
        else _members(find(ARCHIVE, data, URL, md5=MD5), names)
    )
    rows = np.concatenate([_rows(*part) for part in parts])
    labels = torch.from_numpy(rows[:, 0].astype(np.int64))
    return torch.from_numpy(rows[:, 1:].reshape(-1, 3, 32, 32)), labels


def _files(folder: Path, names: tuple[str, ...]) -> list[tuple[str, bytes]]:
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        raise FormatError(f"{folder}: expected {', '.join(names)}, got no {', '.join(missing)}")
    return [(str(folder / name), (folder / name).read_bytes()) for name in names]


def _members(archive: Path, names: tuple[str, ...]) -> list[tuple[str, bytes]]:
    paths, contents = {f"{FOLDER}/{name}" for name in names}, dict[str, bytes]()
    try:
        with gzip.open(archive) as stream, tarfile.open(fileobj=_Bounded(stream), mode="r|") as tar:
            for member in tar:
                path = posixpath.normpath(member.name)
                if path in paths and member.isfile():
                    contents[path] = tar.extractfile(member).read()  # type: ignore[union-attr]
            while tar.fileobj.read(CHUNK):  # to the end, whose checksum is of everything
                pass
    except (tarfile.TarError, EOFError, OSError, ValueError, zlib.error) as error:
        raise FormatError(f"{archive}: expected an intact tar.gz, got a damaged one ({error})") from error
    if missing := [name for name in names if f"{FOLDER}/{name}" not in contents]:
        raise FormatError(f"{archive}: expected {', '.join(names)}, got no {missing[0]}")
    return [(f"{archive}: {name}", contents[f"{FOLDER}/{name}"]) for name in names]


class _Bounded(io.RawIOBase):
    """The file of a tar, of which at most `MAX_BYTES` can be read."""

    def __init__(self, stream: gzip.GzipFile):
        self.stream, self.remaining = stream, MAX_BYTES

    def read(self, size: int = -1) -> bytes:
        content = self.stream.read(size)
        self.remaining -= len(content)
        if self.remaining < 0:
            raise ValueError(f"expected at most {MAX_BYTES} bytes, got more")
        return content


def _rows(name: str, content: bytes) -> np.ndarray:
    if not content or len(content) % ROW:
        raise FormatError(f"{name}: expected rows of {ROW} bytes, got {len(content)} bytes")
    rows = np.frombuffer(content, np.uint8).reshape(-1, ROW)
    if rows[:, 0].max() > 9:
        raise FormatError(f"{name}: expected labels 0 to 9, got {rows[:, 0].max()}")
    return rows
