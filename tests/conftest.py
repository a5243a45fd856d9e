"""Fixtures of all tests: the folder of the real data sets, processes without imports, and a browser."""

import multiprocessing
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("untimed", deadline=None)  # a busy machine fails no test
settings.load_profile("untimed")
pytest.register_assert_rewrite("gnnlib.testing.checks", "gnnlib.testing.case", "gnnlib.testing.arguments")

from gnnlib.testing.graphs import GRAPHS  # noqa: E402  after the line above, or they are imported as they are
from tests.forks import ForkServer, fork_server  # noqa: E402
from tests.processes import preloaded_context  # noqa: E402

# Read once, before a fixture removes the variable.
DATA = Path(os.environ.get("GNNLIB_DATA") or Path(__file__).parents[1] / ".." / "shared" / "data").resolve()

QUICK_GRAPHS = {"random", "bare", "batch", "block", "bipartite"}  # of GRAPHS


@pytest.hookimpl(tryfirst=True)  # before -m selects
def pytest_collection_modifyitems(items):
    """Marks tests that read data sets, and as slow those on further graphs and on further cases of a layer."""
    first_case = {}
    for item in items:
        if "data_dir" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.data)
        params = item.callspec.params if hasattr(item, "callspec") else {}
        name, case = params.get("name"), params.get("case")
        further_graph = isinstance(name, str) and name in GRAPHS.keys() - QUICK_GRAPHS
        further_case = case is not None and first_case.setdefault(item.nodeid.partition("[")[0], case) is not case
        if further_graph or further_case:
            item.add_marker(pytest.mark.slow)


@pytest.fixture
def data_dir():
    """The directory with the real data sets; skips where it is absent."""
    if not DATA.is_dir():
        pytest.skip(f"no real data: {DATA} is not a directory; name one with GNNLIB_DATA")
    return DATA


@pytest.fixture(scope="session")
def server() -> Iterator[ForkServer]:
    """Runs programs without the seconds of their imports."""
    with fork_server() as server:
        yield server


@pytest.fixture
def preloaded(monkeypatch) -> None:
    """What the library starts as spawned processes has imported gnnlib."""
    get_context = multiprocessing.get_context
    monkeypatch.setattr(
        multiprocessing,
        "get_context",
        lambda method=None: preloaded_context() if method == "spawn" else get_context(method),
    )


@pytest.fixture(scope="session")
def browser():
    """Debian's Chromium, driven by Playwright."""
    candidates = map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))
    executable = next((path for path in candidates if path), None)
    if executable is None:
        pytest.skip("Chromium is not installed (apt-get install chromium)")
    api = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed (pip install playwright)")
    with api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=executable, args=["--no-sandbox"])
        yield chromium
        chromium.close()
