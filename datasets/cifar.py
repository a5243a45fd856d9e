"""CIFAR-10 (Krizhevsky, 2009): 50000 + 10000 colour photographs of 32x32 pixels, from the binary version."""

import tarfile
from pathlib import Path

import numpy as np
import torch

from gnnlib.datasets.files import Folder, FormatError, data_dir, find

__all__ = ["CIFAR10", "cifar10"]

CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
ARCHIVE = "cifar-10-binary.tar.gz"
FOLDER = "cifar-10-batches-bin"
URL = "https://www.cs.toronto.edu/~kriz/" + ARCHIVE
MD5 = "c32a1d4ab5d03f1284b67883e8d87530"
TRAIN = tuple(f"data_batch_{number}.bin" for number in range(1, 6))
ROW = 1 + 3 * 32 * 32  # a label, then red, green and blue, each row by row


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
    try:
        with tarfile.open(archive) as tar:
            members = {Path(member.name).name: tar.extractfile(member) for member in tar if member.isfile()}
            return [(f"{archive}: {name}", members[name].read()) for name in names]  # type: ignore[union-attr]
    except KeyError as error:
        raise FormatError(f"{archive}: expected {', '.join(names)}, got no {error.args[0]}") from error
    except (tarfile.TarError, EOFError, OSError) as error:
        raise FormatError(f"{archive}: expected an intact tar.gz, got a damaged one ({error})") from error


def _rows(name: str, content: bytes) -> np.ndarray:
    if not content or len(content) % ROW:
        raise FormatError(f"{name}: expected rows of {ROW} bytes, got {len(content)} bytes")
    rows = np.frombuffer(content, np.uint8).reshape(-1, ROW)
    if rows[:, 0].max() > 9:
        raise FormatError(f"{name}: expected labels 0 to 9, got {rows[:, 0].max()}")
    return rows
