"""The wheel and the sdist: they build, hold gnnlib and nothing else, and import from any directory."""

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

import gnnlib

pytest.importorskip("build")

ROOT = Path(__file__).parents[1]


def run(*command: str | Path, cwd: Path, **env: str) -> str:
    done = subprocess.run(
        [sys.executable, *command], cwd=cwd, env=os.environ | env, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def dist(tmp_path_factory) -> Path:
    """An sdist of a copy of this repository, and the wheel built from that sdist."""
    source = tmp_path_factory.mktemp("source")
    for name in ["setup.cfg", "pyproject.toml", "MANIFEST.in", "LICENSE", "README.md", "CHANGELOG.md"]:
        if (ROOT / name).exists():
            shutil.copy(ROOT / name, source)
    for name in ["gnnlib", "benchmarks", "datasets", "tests"]:
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__", "*.nb[ic]"))
        (source / name / "__init__.py").touch()
    run("-m", "build", "--no-isolation", "--outdir", source / "dist", cwd=source)
    return source / "dist"


def test_the_wheel_holds_gnnlib_and_nothing_else(dist):
    (wheel,) = dist.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    assert {name.split("/")[0] for name in names} == {"gnnlib", f"gnnlib-{gnnlib.__version__}.dist-info"}
    assert "gnnlib/py.typed" in names
    modules = {path.relative_to(ROOT).as_posix() for path in (ROOT / "gnnlib").rglob("*.py")}
    assert modules <= set(names)


def test_the_sdist_holds_what_a_build_needs(dist):
    (sdist,) = dist.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {
        "setup.cfg",
        "pyproject.toml",
        "LICENSE",
        "CHANGELOG.md",
        "gnnlib/py.typed",
        "gnnlib/_platform/dgl.py",
    } <= names


def test_an_installed_gnnlib_imports_from_any_directory(dist, tmp_path):
    (wheel,) = dist.glob("*.whl")
    target = tmp_path / "installed"
    run("-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", target, wheel, cwd=tmp_path)
    where = run("-c", "import gnnlib; print(gnnlib.__file__)", cwd=tmp_path, PYTHONPATH=str(target))
    assert Path(where.strip()) == target / "gnnlib" / "__init__.py"
