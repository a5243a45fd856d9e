"""Before anything imports torch: threads that spin while they wait stall the other library's threads."""

import os

import pytest

os.environ.setdefault("OMP_WAIT_POLICY", "passive")
pytest.register_assert_rewrite("tests.checks")
