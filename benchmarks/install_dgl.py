"""Installation of DGL for versions of Python that have no wheel of it.

The last wheels of DGL are for Python 3.12. DGL calls its C++ library through a module that is compiled for one version
of Python, and through ctypes where that module cannot be imported. The wheels for 3.12 therefore run on later versions.

Only the standard library is imported: ``import gnnlib`` fails where DGL is too old.
"""

import hashlib
import os
import platform
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from tempfile import mkdtemp

VERSION = "2.1.0"
PYTHON = (3, 12)
PREFIX = ".install-dgl-"

# The files of DGL 2.1.0 on PyPI for Python 3.12, and their SHA-256.
WHEELS = {
    ("linux", "x86_64"): (
        "dgl-2.1.0-cp312-cp312-manylinux1_x86_64.whl",
        "af9b5974d667d11b9b2dc153981241c248a314c1a54880d4a2af12a00470b78d",
    ),
    ("linux", "aarch64"): (
        "dgl-2.1.0-cp312-cp312-manylinux2014_aarch64.whl",
        "0f8605418e71191f7a4b43a5a6597e655512c7a48171ac042993d77c676f3092",
    ),
    ("darwin", "x86_64"): (
        "dgl-2.1.0-cp312-cp312-macosx_11_0_x86_64.whl",
        "c0abdc0bf4407f67d1df45b9acd5f8017d26ef13aebaaec973a35905cb70e4ef",
    ),
    ("darwin", "arm64"): (
        "dgl-2.1.0-cp312-cp312-macosx_12_0_arm64.whl",
        "ffebbfbbc2278861601fa44b533e3b4a6f21bbfd742542932cb3af0c7621cffc",
    ),
}


def install(upgrade: bool = False) -> str:
    """Installs DGL's wheel for Python 3.12 into the environment of this interpreter.

    The wheel is downloaded and unpacked by pip into a temporary folder beside the packages, and then renamed.

    Args:
        upgrade: whether to replace another DGL

    Returns:
        what was done, in one sentence

    Raises:
        ValueError: if this Python has wheels of its own, this platform has none, or the hash of the wheel is wrong
        FileExistsError: if another DGL is installed
        OSError: if the environment cannot be written, or pip fails
    """
    _check_python()
    folder, (name, digest) = _site_packages(), _wheel()
    version = _installed_version()
    if version is not None and not upgrade:
        if version == VERSION:
            return f"DGL {version} is already in {folder}"
        raise FileExistsError(f"install-dgl: expected no DGL, got DGL {version}; to replace it add --upgrade")
    with _temporary(folder) as temporary:
        wheels, packages, replaced = (temporary / part for part in ("wheels", "packages", "replaced"))
        requirement = "--no-deps", f"dgl=={VERSION}"
        _pip("download", "--dest", str(wheels), *requirement)
        _check_digest(wheels, name, digest)
        _pip("install", "--target", str(packages), "--no-index", "--find-links", str(wheels), *requirement)
        replaced.mkdir()
        _exchange(folder, replaced, packages)
    return f"DGL {VERSION} is in {folder}; to remove it: gnnlib install-dgl --remove"


def remove() -> str:
    """Removes the DGL that `install` has installed.

    Returns:
        what was done, in one sentence

    Raises:
        ValueError: if there is no such DGL
        OSError: if the environment cannot be written
    """
    _check_python()
    folder, version = _site_packages(), _installed_version()
    if version != VERSION or not _installed_files(folder):
        got = "none" if version is None else f"DGL {version}; to remove it: pip uninstall dgl"
        raise ValueError(f"install-dgl --remove: expected DGL {VERSION} in {folder}, got {got}")
    with _temporary(folder) as temporary:
        _exchange(folder, temporary)
    return f"DGL {VERSION} is removed from {folder}"


def _check_python() -> None:
    if sys.version_info[:2] <= PYTHON:
        version = ".".join(map(str, sys.version_info[:2]))
        pip = "pip install 'dgl>=1.1.3,<3'"
        raise ValueError(f"install-dgl: expected a Python newer than 3.12, got {version}, which has a wheel: {pip}")


def _wheel() -> tuple[str, str]:
    system, machine = sys.platform, platform.machine()
    if (system, machine) not in WHEELS:
        platforms = ", ".join(" ".join(pair) for pair in WHEELS)
        raise ValueError(f"install-dgl: expected a platform with a wheel of DGL, {platforms}, got {system} {machine}")
    return WHEELS[system, machine]


def _site_packages() -> Path:
    return Path(sysconfig.get_path("platlib"))


def _installed_version() -> str | None:
    try:
        return metadata.version("dgl")
    except metadata.PackageNotFoundError:
        return "of unknown version" if (_site_packages() / "dgl").exists() else None


def _installed_files(folder: Path) -> list[Path]:
    """The metadata before the package: where the metadata are, the package is, even after a kill between two moves."""
    return [*folder.glob("dgl-*.dist-info"), *folder.glob("dgl-*.egg-info"), *folder.glob("dgl")]


@contextmanager
def _temporary(folder: Path) -> Iterator[Path]:
    """A folder beside the packages, from where a package is renamed. Folders of killed runs are removed too."""
    marker = Path(sysconfig.get_path("stdlib"), "EXTERNALLY-MANAGED")
    if marker.exists() and sys.prefix == sys.base_prefix:
        raise PermissionError(f"install-dgl: expected a virtual environment, got {folder}, which the system manages")
    try:
        temporary = Path(mkdtemp(prefix=PREFIX, dir=folder))
    except OSError as error:
        raise PermissionError(
            f"install-dgl: expected an environment that can be written, got {folder}: {error.strerror}"
        ) from None
    try:
        yield temporary
    finally:
        for leftover in folder.glob(f"{PREFIX}*"):
            shutil.rmtree(leftover, ignore_errors=True)


def _pip(command: str, *options: str) -> None:
    wheel_options = "--python-version", ".".join(map(str, PYTHON)), "--only-binary=:all:"
    words = [
        sys.executable,
        "-m",
        "pip",
        command,
        "--disable-pip-version-check",
        "--no-input",
        *wheel_options,
        *options,
    ]
    environment = {name: value for name, value in os.environ.items() if name not in ("PIP_USER", "PIP_TARGET")}
    done = subprocess.run(words, env=environment | {"PIP_USER": "0"}, capture_output=True, text=True)
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
        errors = [line for line in lines if line.startswith("ERROR: ")] or lines[-1:]
        connection = " no connection to the index" if "Retrying" in done.stderr + done.stdout else ""
        raise OSError(f"install-dgl: expected pip to {command} DGL {VERSION}, got{connection}: {errors[0]}")


def _check_digest(wheels: Path, name: str, digest: str) -> None:
    (wheel,) = wheels.iterdir()
    actual = hashlib.sha256(wheel.read_bytes()).hexdigest()
    if actual != digest:
        raise ValueError(f"install-dgl: expected {name} with SHA-256 {digest}, got {wheel.name} with {actual}")


def _exchange(folder: Path, replaced: Path, packages: Path | None = None) -> None:
    """Renames the installed files into ``replaced`` and the new ones into the folder: all of them, or none."""
    moves = [(path, replaced / path.name) for path in _installed_files(folder)]
    moves += [(path, folder / path.name) for path in sorted(packages.iterdir())] if packages else []
    done = []
    try:
        for source, target in moves:
            source.rename(target)
            done.append((source, target))
    except BaseException:
        for source, target in reversed(done):
            target.rename(source)
        raise
