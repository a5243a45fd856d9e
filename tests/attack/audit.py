"""An audit hook that records what is executed and which files are touched."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["audited", "watch"]

EXECUTION = {
    *("compile", "exec", "import", "pickle.find_class", "ctypes.dlopen", "ctypes.dlsym", "code.__new__"),
    *("os.system", "os.exec", "os.fork", "os.posix_spawn", "os.spawn", "subprocess.Popen", "pty.spawn"),
    *("socket.connect", "socket.bind", "socket.getaddrinfo", "urllib.Request"),
}
FILES = {
    *("open", "os.chdir", "os.chmod", "os.link", "os.listdir", "os.mkdir", "os.remove", "os.rename", "os.rmdir"),
    *("os.scandir", "os.symlink", "os.truncate", "os.utime", "shutil.copyfile", "shutil.move", "shutil.rmtree"),
}
LIBRARIES = ("encodings.", "gnnlib", "numpy", "ogb", "pandas", "rich", "scipy", "torch", "dgl", "zipfile", "tarfile")
"""Packages of which a reader may import parts when they are first needed; no file chooses them."""

_events: list[tuple[str, tuple]] | None = None


def _hook(event, args):
    if _events is not None and (event in EXECUTION or event in FILES):
        if event in ("os.remove", "os.rmdir") and args[1] != -1:  # within an open folder
            args = (os.path.join(os.readlink(f"/proc/self/fd/{args[1]}"), args[0]), -1)
        _events.append((event, args))


sys.addaudithook(_hook)  # stays as long as the process: Python cannot remove it


@contextmanager
def _recorded() -> Iterator[list[tuple[str, tuple]]]:
    global _events
    _events = events = []
    try:
        yield events
    finally:
        _events = None


@contextmanager
def audited(folder: Path) -> Iterator[None]:
    """Fails unless files of the folder are opened for reading, and nothing else happens."""
    with _recorded() as events:
        yield
    foreign = [(e, a) for e, a in events if not (e == "open" and _is_inside(a[0], [folder]) and a[1] in ("r", "rb"))]
    assert not foreign, foreign


class Report:
    """What happened within `watch`.

    ``executed`` and ``outside`` are descriptions of events: code that a file may have chosen, and files elsewhere.
    """

    def __init__(self) -> None:
        self.executed: list[str] = []
        self.outside: list[str] = []


@contextmanager
def watch(folder: Path) -> Iterator[Report]:
    """Records what is executed within, and the files outside the folder that are touched.

    Reading the installed libraries, and importing parts of those in `LIBRARIES`, is not recorded.
    """
    report = Report()
    try:
        with _recorded() as events:
            yield report
    finally:
        for event, args in events:
            if event in EXECUTION and not _is_library(event, args):
                report.executed.append(f"{event} {args!r:.200}")
            if event in FILES and not _is_inside_or_read(event, args, folder):
                report.outside.append(f"{event} {args!r:.200}")


def _is_library(event: str, args: tuple) -> bool:
    if event == "import":
        return args[0].startswith(LIBRARIES)
    if event == "compile":
        return args[1] in ("<unknown>", b"<unknown>") or _is_installed(
            args[1]
        )  # the first is ast.literal_eval's, of numpy
    if event == "exec":
        return _is_installed(args[0].co_filename)
    return False


def _is_installed(name) -> bool:
    return str(name).startswith("<frozen ") or (os.path.isabs(name) and _is_inside(name, _places()))


def _is_inside_or_read(event: str, args: tuple, folder: Path) -> bool:
    paths = [arg for arg in args if isinstance(arg, (str, bytes, os.PathLike))][: 1 if event == "open" else 2]
    if event == "open":
        if isinstance(args[0], int):  # an open file
            return True
        if args[1] is None and not os.path.isabs(args[0]) and not os.path.exists(args[0]):  # os.open within a folder
            return True
        if args[1] in ("r", "rb", None) and not (args[2] & (os.O_WRONLY | os.O_RDWR)) and _is_installed(args[0]):
            return True
    if event in ("os.listdir", "os.scandir") and paths and _is_installed(paths[0]):
        return True
    return all(_is_inside(path, [folder]) for path in paths)


def _places() -> list[Path]:
    return [Path(__file__).parents[2], *map(Path, {sys.prefix, sys.base_prefix, *sys.path} - {""})]


def _is_inside(path, folders) -> bool:
    try:
        full = os.path.realpath(os.fsdecode(path))
    except (TypeError, ValueError):
        return False
    return any(full == str(folder) or full.startswith(os.path.realpath(folder) + os.sep) for folder in folders)
