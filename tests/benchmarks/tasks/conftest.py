"""The tests of tasks train networks: all of them are slow."""

from pathlib import Path

import pytest

FOLDER = str(Path(__file__).parent)


@pytest.hookimpl(tryfirst=True)  # before -m selects
def pytest_collection_modifyitems(items):
    for item in items:
        if str(item.path).startswith(FOLDER):
            item.add_marker(pytest.mark.slow)
