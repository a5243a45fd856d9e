"""The wheel and the sdist: they build, hold gnnlib and nothing else, and work from any directory."""

import operator
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

import gnnlib

pytest.importorskip("build")
pytestmark = pytest.mark.process

ROOT = Path(__file__).parents[1]
LINKS = {"benchmarks", "datasets"}  # folders at the top that are packages below gnnlib
DATA = {".css", ".html", ".j2", ".js", ".mplstyle"}


def run(*command: str | Path, cwd: Path, **env: str) -> str:
    result = subprocess.run(
        [sys.executable, *command], cwd=cwd, env=os.environ | env, capture_output=True, text=True, timeout=120
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def package_files() -> set[str]:
    """Every module, template and style below gnnlib/, those behind its links included."""
    tops = [ROOT / "gnnlib", *(ROOT / "gnnlib" / name for name in LINKS)]
    paths = {path for top in tops for path in top.rglob("*") if path.suffix in DATA | {".py"}}
    names = {path.relative_to(ROOT).as_posix() for path in paths}
    return {name for name in names if not name.startswith("gnnlib/benchmarks/results/")} | {"gnnlib/py.typed"}


@pytest.fixture(scope="module")
def dist(tmp_path_factory) -> Path:
    """An sdist of a copy of this repository, and the wheel built from that sdist."""
    source = tmp_path_factory.mktemp("source")
    for name in ["setup.cfg", "pyproject.toml", "MANIFEST.in", "LICENSE", "README.md", "CHANGELOG.md"]:
        if (ROOT / name).exists():
            shutil.copy(ROOT / name, source)
    for name in ["gnnlib", "benchmarks", "bin", "datasets", "tests"]:
        if (ROOT / name).exists():
            ignore = shutil.ignore_patterns("__pycache__", "*.nb[ic]")
            shutil.copytree(ROOT / name, source / name, symlinks=True, ignore=ignore)
            if name != "bin":
                (source / name / "__init__.py").touch()
    run("-m", "build", "--no-isolation", "--outdir", source / "dist", cwd=source)
    return source / "dist"


@pytest.fixture(scope="module")
def installed(dist, tmp_path_factory) -> Path:
    """A folder that the wheel is installed into, without its dependencies."""
    (wheel,) = dist.glob("*.whl")
    target = tmp_path_factory.mktemp("installed")
    run("-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", target, wheel, cwd=target)
    return target


def test_pre_commit_runs_the_pinned_ruff():
    if not (ROOT / ".pre-commit-config.yaml").exists():
        pytest.skip("not a checkout")
    (version,) = re.findall(r"^ruff==(.+)$", (ROOT / "constraints.txt").read_text("utf-8"), re.MULTILINE)
    assert f"rev: v{version} " in (ROOT / ".pre-commit-config.yaml").read_text("utf-8")


def test_links_lead_to_the_folders_at_the_top():
    if not (ROOT / ".git").exists():
        pytest.skip("not a checkout: an sdist holds real folders")
    for name in LINKS:
        assert (ROOT / "gnnlib" / name).readlink() == Path("..") / name


def test_pytest_collects_each_module_once():
    files = ["datasets/idx.py", "gnnlib/datasets/idx.py"]
    listing = run("-m", "pytest", "--quiet", "--collect-only", *files, cwd=ROOT).splitlines()
    assert [line for line in listing if "::" in line] == ["gnnlib/datasets/idx.py::gnnlib.datasets.idx.read_idx"]


def test_wheel_contents(dist):
    (wheel,) = dist.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        infos = archive.infolist()
    names = {info.filename for info in infos}
    metadata = f"gnnlib-{gnnlib.__version__}.dist-info"
    script = f"gnnlib-{gnnlib.__version__}.data/scripts/gnnlib"
    assert {name for name in names if not name.startswith(metadata)} == {*package_files(), script}
    assert not any(info.external_attr >> 28 == 0o12 for info in infos)  # symbolic links
    assert sum(info.file_size for info in infos) < 4e6


def test_sdist_contents(dist):
    (sdist,) = dist.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        members = archive.getmembers()
    names = {member.name.partition("/")[2] for member in members}
    assert {"setup.cfg", "pyproject.toml", "LICENSE", "CHANGELOG.md"} <= names
    assert {name for name in names if name.startswith("gnnlib/") and "." in name.rpartition("/")[2]} == package_files()
    assert not any(member.issym() for member in members)
    assert not any("results" in name.split("/") for name in names)


def test_installed_package_imports_from_any_directory(installed, tmp_path):
    script = "import gnnlib, gnnlib.datasets, gnnlib.benchmarks; print(gnnlib.datasets.__file__)"
    path = run("-c", script, cwd=tmp_path, PYTHONPATH=str(installed))
    assert Path(path.strip()) == installed / "gnnlib" / "datasets" / "__init__.py"


def test_console_script(installed, tmp_path):
    """Help and mistakes import no torch, and a command runs."""
    script, torch = installed / "bin" / "gnnlib", tmp_path / "torch"
    torch.mkdir()
    (torch / "__init__.py").write_text("raise ImportError('torch is imported')")
    path = f"{tmp_path}:{installed}"
    for words in (["--help"], ["run", "--help"]):
        assert f"usage: gnnlib {'run ' if words[1:] else ''}[-h]" in run(script, *words, cwd=tmp_path, PYTHONPATH=path)
    mistake = [sys.executable, script, "run", "--seeds", "two"]
    env = os.environ | {"PYTHONPATH": path}
    result = subprocess.run(mistake, cwd=tmp_path, env=env, capture_output=True, text=True)
    assert (result.returncode, "invalid int value: 'two'" in result.stderr) == (2, True)
    assert "mnist-superpixels" in run(script, "list", cwd=tmp_path, PYTHONPATH=str(installed))


def test_names_of_other_libraries_are_answered_with_ours():
    import gnnlib

    for name, ours in gnnlib._OURS.items():
        assert operator.attrgetter(re.match(r"[\w.]+", ours)[0])(gnnlib)
        with pytest.raises(AttributeError, match=re.escape(f"no attribute '{name}'; use gnnlib.{ours}") + "$"):
            getattr(gnnlib, name)
    with pytest.raises(AttributeError, match=r"no attribute 'Nothing'$"):
        gnnlib.Nothing  # noqa: B018
