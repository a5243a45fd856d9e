"""Finding, downloading and keeping files: the only module that knows about directories, networks and caches.

A file in the cache has a seal beside it, ``<name>.sha256``, written once the file is complete. An entry that does not
match its seal, or has none, is damaged: a warning names it, and it is made again.
"""

import hashlib
import http.client
import os
import urllib.request
import warnings
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TypeVar

from filelock import FileLock

from gnnlib._utils.files import atomic_write

__all__ = ["DownloadError", "FormatError", "cache_dir", "cached", "data_dir", "digest", "find", "track"]

TIMEOUT = 5.0  # seconds, for the connection and for each read
CHUNK = 1 << 18  # bytes
T = TypeVar("T")
Folder = str | os.PathLike[str] | None


class DownloadError(FileNotFoundError):
    """A file is not at hand and could not be downloaded whole."""


class FormatError(ValueError):
    """A file is there but does not hold what its name promises."""


def data_dir(data: Folder = None) -> Path | None:
    """The directory that the user points to: ``data``, else the environment's ``GNNLIB_DATA``, else None.

    Raises:
        FileNotFoundError: the directory is named but is not there.

    >>> data_dir("no/such/folder")
    Traceback (most recent call last):
    FileNotFoundError: expected a data directory, received data=no/such/folder, which is not a directory
    """
    origin = "data" if data else "GNNLIB_DATA"
    name = data or os.environ.get("GNNLIB_DATA")
    if not name:
        return None
    folder = Path(name).expanduser()
    if not folder.is_dir():
        raise FileNotFoundError(f"expected a data directory, received {origin}={folder}, which is not a directory")
    return folder


def cache_dir() -> Path:
    """The user's cache: ``GNNLIB_CACHE``, else ``$XDG_CACHE_HOME/gnnlib``, else ``~/.cache/gnnlib``. It need not exist.

    >>> cache_dir().is_absolute()
    True
    """
    if own := os.environ.get("GNNLIB_CACHE"):
        return Path(own).expanduser().absolute()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser().absolute() / "gnnlib"


def find(
    name: str,
    data: Folder = None,
    url: str | None = None,
    sha256: str | None = None,
    *,
    md5: str | None = None,
    installed: Folder = None,
    alone: bool = True,
) -> Path:
    """The path of a data file: from the user's data directory, else from where a package of the system put it, else
    from the cache, else downloaded into the cache.

    Args:
        name: the file below the data directory or the cache, such as ``"mnist/t10k-images-idx3-ubyte.gz"``.
        data: the data directory; see `data_dir`.
        url: the public address; None where there is none.
        sha256, md5: checksum of the public file, in hexadecimal, whichever is published. Checked on a download, never
            on a user's own file.
        installed: the file that a package of the system installs, as Debian's do below /usr/share/datasets.
        alone: whether in the data directory the last part of ``name`` alone will do.

    Raises:
        FileNotFoundError: a data directory is named but is not there.
        DownloadError: the file is nowhere, and the download failed, fell short or has another checksum.

    >>> find("files.py", data=Path(__file__).parent).name
    'files.py'
    """
    folder = data_dir(data)
    wanted = dict.fromkeys([folder / name, *([folder / Path(name).name] if alone else [])]) if folder else {}
    for path in [*wanted, *([Path(installed)] if installed else [])]:
        if path.is_file():
            return path
    entry = cache_dir() / name
    expected = {kind: value for kind, value in (("sha256", sha256), ("md5", md5)) if value}
    try:
        return cached(entry, lambda part: _download(url, part, expected))
    except DownloadError as error:
        sought = f"no {' or '.join(map(str, wanted))} in the data directory" if folder else "no data directory given"
        raise DownloadError(
            f"{name} not found: {sought}; no intact {entry} in the cache; {error}. "
            f"Fetch it by hand and name the directory that holds it with --data DIR or GNNLIB_DATA=DIR."
        ) from error


def cached(path: Path, build: Callable[[Path], None]) -> Path:
    """``path``, an entry of the cache, after ``build(part)`` has written it unless an intact one is there already.

    Several processes may ask at once: one builds, the others wait. A damaged entry is named in a RuntimeWarning and
    built again.

    Raises:
        OSError: the cache cannot be written to.

    >>> import tempfile
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
        raise OSError(f"cannot write to the cache {path.parent} ({error}); name another with GNNLIB_CACHE") from error
    with lock:
        if path.exists():
            damage = _damage(path)
            if damage is None:
                return path
            warnings.warn(f"damaged cache entry {path}: {damage}; making it again", RuntimeWarning, stacklevel=2)
        with atomic_write(path) as part:
            build(part)
        with atomic_write(_seal(path)) as part:
            part.write_text(digest(path) + "\n")
    return path


def digest(path: Path, kind: str = "sha256") -> str:
    """The checksum of a file, in hexadecimal: SHA-256, or another kind that `hashlib` knows."""
    result = hashlib.new(kind)
    with open(path, "rb") as file:
        while chunk := file.read(CHUNK):
            result.update(chunk)
    return result.hexdigest()


def track(items: Iterable[T], description: str, total: float | None = None) -> Iterator[T]:
    """The items, one by one, with a progress bar on standard error: rich's where it is installed, else tqdm's.

    >>> list(track("ab", "letters"))
    ['a', 'b']
    """
    try:
        from rich.console import Console
        from rich.progress import track as rich_track
    except ImportError:
        from tqdm import tqdm  # type: ignore[import-untyped]

        yield from tqdm(items, desc=description, total=total)
    else:
        yield from rich_track(items, description, total=total, console=Console(stderr=True))


def _seal(path: Path) -> Path:
    return path.with_name(path.name + ".sha256")


def _damage(path: Path) -> str | None:
    """What is wrong with an entry of the cache, or None."""
    seal = _seal(path)
    expected = seal.read_text().strip() if seal.exists() else f"(in {seal.name}, which is absent)"
    received = digest(path)
    return None if expected == received else f"expected sha256 {expected}, received {received}"


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
    except (OSError, ValueError, http.client.HTTPException) as error:  # ValueError: an address that is none
        raise DownloadError(f"cannot download {url} ({error})") from error
    if size is not None and path.stat().st_size != size:
        raise DownloadError(f"cannot download {url} (expected {size} bytes, received {path.stat().st_size})")
    for kind, expected in checksums.items():
        if (received := digest(path, kind)) != expected:
            raise DownloadError(f"{url} is not the file it was: expected {kind} {expected}, received {received}")
