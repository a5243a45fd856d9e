"""Fixtures and collection of all tests and doctests."""

import gc
import os
import sys
from pathlib import Path

# Before torch loads OpenMP. Threads that wait sleep: the tests of several processes share the cores, where threads that
# wait in a loop take up to ten times the time.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

if os.environ.get("GNNLIB_WITHOUT_DGL"):
    sys.modules["dgl"] = None  # its import fails

import pytest
import torch

from gnnlib._platform import dgl as platform

HAS_DGL = platform.HAS_DGL
if not HAS_DGL:
    from tests import without_dgl

    without_dgl.install(platform)

ROOT = Path(__file__).parent
GENERATED = [ROOT / "docs" / "api", ROOT / "docs" / "gallery"]
ABOUT_DGL = [ROOT / "gnnlib" / path for path in ("_platform/dgl.py", "compat/_batch.py", "compat/dgl_nn")]
WITH_TRITON = [ROOT / "gnnlib" / "kernels" / "cuda"]  # no examples; Triton is not everywhere
LINKED = [ROOT / "benchmarks", ROOT / "datasets"]  # packages below gnnlib; under two names each module would load twice


gc.disable()  # until all modules are imported and all tests are collected, which stay


def pytest_collection_finish():
    """The garbage collector does not visit what was imported and collected: a twentieth of all time."""
    gc.freeze()
    gc.enable()


def pytest_configure(config):
    """``pytest benchmarks`` collects gnnlib/benchmarks."""
    config.args = [_below_gnnlib(argument, config.invocation_params.dir) for argument in config.args]


def pytest_ignore_collect(collection_path):
    """``pytest .`` reaches both folders below gnnlib, and nothing that Sphinx wrote."""
    return True if collection_path in LINKED + GENERATED + WITH_TRITON + ([] if HAS_DGL else ABOUT_DGL) else None


def pytest_collection_modifyitems(items):
    """Without DGL, processes that tests start would import it."""
    for item in items:
        if not HAS_DGL and item.get_closest_marker("process") and item.path.stem != "test_without_dgl":
            item.add_marker(pytest.mark.skip(reason="needs DGL in another process"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item):
    try:
        return (yield)
    except Exception as error:
        reason = None if HAS_DGL else without_dgl.reason_to_skip(error)
        if reason is None:
            raise
        pytest.skip(reason)


def _below_gnnlib(argument: str, start: Path) -> str:
    path, *names = argument.split("::")
    absolute = (start / path).absolute()
    if any(absolute.is_relative_to(folder) for folder in LINKED):
        path = str(ROOT / "gnnlib" / absolute.relative_to(ROOT))
    return "::".join([path, *names])


@pytest.fixture(autouse=True, scope="session")
def _default_data_dir():
    """Without the variable, which the tests' conftest has read: it would be in the commands that results name."""
    os.environ.pop("GNNLIB_DATA", None)


@pytest.fixture(autouse=True)
def _seed():
    """The same random numbers, whichever tests ran before. torch.manual_seed notes a stack trace for each device."""
    torch.default_generator.manual_seed(0)
