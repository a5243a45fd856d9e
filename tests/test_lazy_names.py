"""Names of the package that are imported on first use."""

import subprocess
import sys

import pytest

import gnnlib

SCRIPT = """
import sys
import gnnlib

assert not any(name.startswith(("gnnlib.benchmarks", "gnnlib.datasets")) for name in sys.modules)
assert {"benchmarks", "datasets", "depth_study"} <= set(dir(gnnlib))
assert callable(gnnlib.datasets.planetoid)
assert "gnnlib.benchmarks" not in sys.modules
assert gnnlib.benchmarks is sys.modules["gnnlib.benchmarks"]
assert gnnlib.depth_study is sys.modules["gnnlib.benchmarks.depth"].depth_study
assert not {"rich", "matplotlib"} & sys.modules.keys(), "the library alone is enough"
"""


@pytest.mark.process
def test_importing_gnnlib_imports_no_benchmarks():
    result = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


def test_other_names_are_attribute_errors():
    with pytest.raises(AttributeError, match="module 'gnnlib' has no attribute 'depth_studies'"):
        _ = gnnlib.depth_studies
