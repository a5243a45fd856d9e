"""`install-dgl`: pip with small wheels from a folder in place of the package index."""

import hashlib
import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from collections import namedtuple
from pathlib import Path

import pytest

from gnnlib.benchmarks import install_dgl
from gnnlib.benchmarks.__main__ import main

pytestmark = pytest.mark.process

ROOT = Path(__file__).parents[2]
Version = namedtuple("Version", "major minor micro releaselevel serial")
NAME = "dgl-2.1.0-cp312-cp312-manylinux1_x86_64.whl"


def write_wheel(folder: Path, text: str = "new") -> str:
    """A wheel with one module; returns its SHA-256."""
    info = "dgl-2.1.0.dist-info"
    files = {
        "dgl/__init__.py": f"text = {text!r}",
        f"{info}/METADATA": "Metadata-Version: 2.1\nName: dgl\nVersion: 2.1.0\nRequires-Dist: absent-package\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: false\nTag: cp312-cp312-manylinux1_x86_64\n",
    }
    files[f"{info}/RECORD"] = "".join(f"{name},,\n" for name in (*files, f"{info}/RECORD"))
    with zipfile.ZipFile(folder / NAME, "w") as archive:
        for name, content in files.items():
            archive.writestr(zipfile.ZipInfo(name), content)
    return hashlib.sha256((folder / NAME).read_bytes()).hexdigest()


@pytest.fixture
def environment(tmp_path, monkeypatch):
    """The packages of an environment with Python 3.13 on Linux; pip reads wheels from a folder beside it."""
    index, packages = tmp_path / "index", tmp_path / "site-packages"
    index.mkdir()
    packages.mkdir()
    monkeypatch.setattr(install_dgl, "WHEELS", {("linux", "x86_64"): (NAME, write_wheel(index))})
    monkeypatch.setattr(install_dgl.platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(install_dgl, "_site_packages", lambda: packages)
    monkeypatch.setattr(sys, "version_info", Version(3, 13, 0, "final", 0))
    monkeypatch.setattr(sys, "path", [str(packages), *(entry for entry in sys.path if "site-packages" not in entry)])
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(index))
    return packages


@pytest.fixture
def no_pip(environment, monkeypatch):
    """The two calls of pip without its process."""

    def pip(command, option, folder, *rest):
        if command == "download":
            shutil.copytree(environment.parent / "index", folder)
        else:
            with zipfile.ZipFile(environment.parent / "index" / NAME) as archive:
                archive.extractall(folder)

    monkeypatch.setattr(install_dgl, "_pip", pip)


def files(folder: Path) -> dict[str, str]:
    names = (path for path in folder.rglob("*") if path.is_file() and path.suffix != ".pyc")
    return {path.relative_to(folder).as_posix(): path.read_text() for path in names}


def fails(capsys, *words: str) -> str:
    assert main(["install-dgl", *words]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    return error


def put(packages: Path, version: str | None) -> None:
    (packages / "dgl").mkdir()
    (packages / "dgl" / "__init__.py").write_text("text = 'old'")
    (packages / "dgl" / "removed_since.py").touch()
    if version:
        info = packages / f"dgl-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: dgl\nVersion: {version}\n")


def test_the_wheel_is_installed_and_removed(environment, capsys):
    (environment / "other.py").touch()
    before = files(environment)
    assert main(["install-dgl"]) == 0
    assert f"DGL 2.1.0 is in {environment}" in capsys.readouterr().out
    assert files(environment)["dgl/__init__.py"] == "text = 'new'"
    assert {name.split("/")[0] for name in files(environment)} == {"other.py", "dgl", "dgl-2.1.0.dist-info"}
    installed = files(environment)
    assert main(["install-dgl"]) == 0, "a second time, as make does"
    assert "already" in capsys.readouterr().out
    assert files(environment) == installed
    assert main(["install-dgl", "--remove"]) == 0
    assert files(environment) == before
    assert "expected DGL 2.1.0 in" in fails(capsys, "--remove")


@pytest.mark.parametrize("version", ["0.1.3", "2.1.0", None])
def test_another_dgl_is_replaced_on_request_only(environment, no_pip, capsys, version):
    """A folder without metadata is what a removal that was killed leaves."""
    put(environment, version)
    before = files(environment)
    if version != "2.1.0":
        expected = f"expected no DGL, got DGL {version or 'of unknown version'}; to replace it add --upgrade"
        assert expected in fails(capsys)
        assert files(environment) == before
        assert "pip uninstall dgl" in fails(capsys, "--remove")
        assert files(environment) == before
    assert main(["install-dgl", "--upgrade"]) == 0
    assert files(environment)["dgl/__init__.py"] == "text = 'new'"
    assert {name.split("/")[0] for name in files(environment)} == {"dgl", "dgl-2.1.0.dist-info"}
    assert "dgl/removed_since.py" not in files(environment)


def test_a_wheel_with_another_hash_is_refused(environment, no_pip, capsys, tmp_path):
    put(environment, "0.1.3")
    before, digest = files(environment), write_wheel(tmp_path / "index", "forged")
    error = fails(capsys, "--upgrade")
    assert f"expected {NAME} with SHA-256 {install_dgl.WHEELS['linux', 'x86_64'][1]}, got {NAME} with {digest}" in error
    assert files(environment) == before


def test_an_index_without_the_wheel(environment, capsys, tmp_path):
    (tmp_path / "index" / NAME).unlink()
    assert "expected pip to download DGL 2.1.0, got: ERROR: " in fails(capsys)
    assert list(environment.iterdir()) == []


def test_no_network(environment, capsys, monkeypatch):
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.delenv("PIP_FIND_LINKS")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")  # the port of the service that discards
    monkeypatch.setenv("PIP_RETRIES", "1")
    error = fails(capsys)
    assert "expected pip to download DGL 2.1.0, got no connection to the index: ERROR: " in error
    assert list(environment.iterdir()) == []


def test_an_environment_that_cannot_be_written(environment, capsys, monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    for folder in (tmp_path / "absent", tmp_path / "file"):
        monkeypatch.setattr(install_dgl, "_site_packages", lambda folder=folder: folder)
        assert f"expected an environment that can be written, got {folder}: " in fails(capsys)


def test_an_environment_of_the_system(environment, capsys, monkeypatch, tmp_path):
    (tmp_path / "EXTERNALLY-MANAGED").touch()
    monkeypatch.setattr(sysconfig, "get_path", lambda name: str(tmp_path))
    monkeypatch.setattr(sys, "prefix", sys.base_prefix)
    assert "expected a virtual environment, got" in fails(capsys)


def test_other_pythons_and_platforms(environment, capsys, monkeypatch):
    monkeypatch.setattr(sys, "platform", "win32")
    assert "expected a platform with a wheel of DGL, linux x86_64, got win32 x86_64" in fails(capsys)
    monkeypatch.setattr(sys, "version_info", Version(3, 12, 1, "final", 0))
    for words in ([], ["--remove"]):
        expected = "expected a Python newer than 3.12, got 3.12, which has a wheel: pip install 'dgl>=1.1.3,<3'"
        assert expected in fails(capsys, *words)


@pytest.mark.parametrize("failure", range(4))
def test_a_failure_at_any_move_restores_everything(environment, no_pip, monkeypatch, failure):
    """Two moves take the old files away, two bring the new ones."""
    put(environment, "0.1.3")
    before, moves, rename = files(environment), [], Path.rename

    def fail(self, target):
        moves.append(target)
        if len(moves) == failure + 1:
            raise KeyboardInterrupt
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", fail)
    with pytest.raises(KeyboardInterrupt):
        install_dgl.install(upgrade=True)
    assert files(environment) == before


@pytest.mark.parametrize("failure", range(4))
def test_a_kill_at_any_move_is_noticed(environment, no_pip, monkeypatch, failure):
    """Where the metadata are, the package is; the next command brings everything in order."""
    put(environment, "0.1.3")
    moves, rename = [], Path.rename

    class Killed(BaseException):
        pass

    def fail(self, target):
        if len(moves) >= failure:
            raise Killed  # the moves back fail as well
        moves.append(target)
        return rename(self, target)

    with monkeypatch.context() as context:
        context.setattr(Path, "rename", fail)
        context.setattr(install_dgl.shutil, "rmtree", lambda *args, **kwargs: None)
        with pytest.raises(Killed):
            install_dgl.install(upgrade=True)
    assert not list(environment.glob("dgl-*")) or (environment / "dgl" / "__init__.py").exists()
    assert main(["install-dgl", "--upgrade"]) == 0
    assert files(environment)["dgl/__init__.py"] == "text = 'new'"
    assert not list(environment.glob(".install-dgl-*"))


def test_the_command_runs_where_gnnlib_cannot_be_imported(tmp_path):
    """A DGL that is too old fails `import gnnlib`, and the command is the cure."""
    (tmp_path / "torch.py").write_text("raise ImportError('torch is imported')")
    command = [sys.executable, str(ROOT / "bin" / "gnnlib"), "install-dgl", "--remove", "--upgrade"]
    env = os.environ | {"PYTHONPATH": f"{tmp_path}:{ROOT}"}
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True)
    assert done.stderr == "gnnlib: error: install-dgl: expected --upgrade or --remove, got both\n"
    assert done.returncode == 2
