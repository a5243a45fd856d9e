"""What all tests share: the real data where there are some."""

import os
from pathlib import Path

import pytest

pytest.register_assert_rewrite("tests.checks")

# read once, before a fixture hides the variable
DATA = Path(os.environ.get("GNNLIB_DATA") or Path(__file__).parents[1] / ".." / "shared" / "data").resolve()


@pytest.fixture
def data_dir():
    """The directory with the real data sets; skips where it is absent."""
    if not DATA.is_dir():
        pytest.skip(f"no real data: {DATA} is not a directory; name one with GNNLIB_DATA")
    return DATA
