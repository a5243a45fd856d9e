"""Data files: data directories, downloads and the cache.

A file in the cache has its checksum beside it, ``<name>.sha256``, written after the file is complete. An entry without
checksum, or with another one, is damaged: it is rebuilt with a warning.
"""

import hashlib
import http.client
import os
import urllib.request
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from filelock import FileLock

from gnnlib._utils.files import atomic_write
from gnnlib._utils.progress import track

__all__ = ["DownloadError", "FormatError", "cache_dir", "cached", "data_dir", "dataset_name", "digest", "find"]

TIMEOUT = 5.0  # seconds, for the connection and for each read
CHUNK = 1 << 18  # bytes
T = TypeVar("T")
Folder = str | os.PathLike[str] | None


class DownloadError(FileNotFoundError):
    """A file is not found locally, and its download failed."""


class FormatError(ValueError):
    """The content of a file is invalid."""


def data_dir(data: Folder = None) -> Path | None:
    """The data directory: ``data``, else the environment variable ``GNNLIB_DATA``, else None.

    Raises:
        FileNotFoundError: if the directory does not exist.

    Example:
        >>> from gnnlib.datasets.files import data_dir
        >>> data_dir("no/such/folder")
        Traceback (most recent call last):
        FileNotFoundError: expected a data directory, got data=no/such/folder, which is not a directory
    """
    origin = "data" if data else "GNNLIB_DATA"
    name = data or os.environ.get("GNNLIB_DATA")
    if not name:
        return None
    folder = Path(name).expanduser()
    if not folder.is_dir():
        raise FileNotFoundError(f"expected a data directory, got {origin}={folder}, which is not a directory")
    return folder


def cache_dir() -> Path:
    """The cache directory: ``GNNLIB_CACHE``, else ``$XDG_CACHE_HOME/gnnlib``, else ``~/.cache/gnnlib``. It may not
    exist.

    Example:
        >>> from gnnlib.datasets.files import cache_dir
        >>> cache_dir().is_absolute()
        True
    """
    if folder := os.environ.get("GNNLIB_CACHE"):
        return Path(folder).expanduser().absolute()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser().absolute() / "gnnlib"


def dataset_name(owner: str, name: str, names: Sequence[str]) -> str:
    """The name of a data set as its files have it, whatever its letters' case.

    Raises:
        ValueError: if it is none of these

    Example:
        >>> from gnnlib.datasets.files import dataset_name
        >>> dataset_name("planetoid", "CiteSeer", ["cora", "citeseer"])
        'citeseer'
    """
    for canonical in names:
        if isinstance(name, str) and name.lower() == canonical.lower():
            return canonical
    raise ValueError(f"{owner}: expected one of {', '.join(names)}, got {name!r}")


def find(
    name: str,
    data: Folder = None,
    url: str | None = None,
    sha256: str | None = None,
    *,
    md5: str | None = None,
    installed: Folder = None,
    subfolder_only: bool = False,
) -> Path:
    """The path of a data file: in the data directory, else of a system package, else in the cache, else downloaded into
    the cache.

    Args:
        name: the file below the data directory or the cache, such as ``"mnist/t10k-images-idx3-ubyte.gz"``.
        data: the data directory; see :func:`data_dir`.
        url: the public address, or None.
        sha256, md5: checksum of the public file, in hexadecimal, whichever is published. Downloads are verified, a
            user's own files are not.
        installed: the path at which a system package installs the file, such as below /usr/share/datasets.
        subfolder_only: whether to require the folders of ``name`` below the data directory; by default the file may
            also be directly in the data directory.

    Raises:
        FileNotFoundError: if the data directory does not exist.
        DownloadError: if the file is not found, and the download fails, is incomplete or has another checksum.

    Example:
        >>> from gnnlib.datasets.files import find
        >>> import gnnlib.datasets
        >>> find("idx.py", data=gnnlib.datasets.__path__[0]).name
        'idx.py'
    """
    folder = data_dir(data)
    places = [folder / name] + ([] if subfolder_only else [folder / Path(name).name]) if folder else []
    for path in [*places, *([Path(installed)] if installed else [])]:
        if path.is_file():
            return path
    entry = cache_dir() / name
    expected = {kind: value for kind, value in (("sha256", sha256), ("md5", md5)) if value}
    try:
        return cached(entry, lambda part: _download(url, part, expected))
    except DownloadError as error:
        missing = " or ".join(map(str, dict.fromkeys(places)))
        local = f"no {missing} in the data directory" if folder else "no data directory given"
        raise DownloadError(
            f"{name} not found: {local}; no intact {entry} in the cache; {error}. "
            f"Download it by hand and set its directory with --data DIR or GNNLIB_DATA=DIR."
        ) from error


def cached(path: Path, build: Callable[[Path], None]) -> Path:
    """An entry of the cache, written by ``build(part)`` unless an intact one exists.

    If several processes call it at once, one builds and the others wait. A damaged entry is reported as a
    RuntimeWarning and rebuilt.

    Raises:
        OSError: if the cache cannot be written to.

    Example:
        >>> import tempfile
        >>> from gnnlib.datasets.files import cached
        >>> from pathlib import Path
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     cached(Path(folder) / "five", lambda part: print("built", part.write_text("5"))).read_text()
        ...     cached(Path(folder) / "five", lambda part: print("never called")).read_text()
        built 1
        '5'
        '5'
    """
    if path.exists() and _damage(path) is None:
        return path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path.with_name(path.name + ".lock")).acquire()
    except OSError as error:
        raise OSError(f"cannot write to the cache {path.parent} ({error}); set another with GNNLIB_CACHE") from error
    with lock:
        if path.exists():
            damage = _damage(path)
            if damage is None:
                return path
            warnings.warn(f"damaged cache entry {path}: {damage}; rebuilding it", RuntimeWarning, stacklevel=2)
        with atomic_write(path) as part:
            build(part)
        with atomic_write(_checksum_path(path)) as part:
            part.write_text(digest(path) + "\n")
    return path


def digest(path: Path, kind: str = "sha256") -> str:
    """The checksum of a file, in hexadecimal: SHA-256, or another kind of `hashlib`."""
    result = hashlib.new(kind)
    with open(path, "rb") as file:
        while chunk := file.read(CHUNK):
            result.update(chunk)
    return result.hexdigest()


def _checksum_path(path: Path) -> Path:
    return path.with_name(path.name + ".sha256")


def _damage(path: Path) -> str | None:
    """The damage of an entry of the cache, or None."""
    checksum = _checksum_path(path)
    expected = checksum.read_text().strip() if checksum.exists() else f"(in {checksum.name}, which is absent)"
    actual = digest(path)
    return None if expected == actual else f"expected sha256 {expected}, got {actual}"


def _download(url: str | None, path: Path, checksums: dict[str, str]) -> None:
    if url is None:
        raise DownloadError("it has no public address")
    size = None
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT) as response, open(path, "wb") as file:
            if length := response.headers.get("Content-Length"):
                size = int(length)
            chunks = iter(lambda: response.read(CHUNK), b"")
            for chunk in track(chunks, f"downloading {url}", size and -(-size // CHUNK)):
                file.write(chunk)
    except (OSError, ValueError, http.client.HTTPException) as error:  # ValueError: an invalid address
        raise DownloadError(f"cannot download {url} ({error})") from error
    if size is not None and path.stat().st_size != size:
        raise DownloadError(f"cannot download {url} (expected {size} bytes, got {path.stat().st_size})")
    for kind, expected in checksums.items():
        if (actual := digest(path, kind)) != expected:
            raise DownloadError(f"{url} has changed: expected {kind} {expected}, got {actual}")
