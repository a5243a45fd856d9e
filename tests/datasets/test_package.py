"""The package as a whole."""

import subprocess
import sys
from pathlib import Path

import pytest

from gnnlib import datasets
from gnnlib._platform.modules import module_as

ROOT = Path(__file__).parents[2]


@pytest.mark.process
def test_importing_it_needs_no_extra():
    extras = ("sklearn", "skimage", "torch_geometric", "rich", "matplotlib", "ogb.graphproppred")
    code = f"import sys; from gnnlib import datasets; print([m for m in {extras!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.stdout.strip() == "[]", done.stderr


def test_every_name_is_documented():
    for name in datasets.__all__:
        assert getattr(datasets, name).__doc__


def test_module_as_restores_modules():
    import wave

    with module_as("wave", None):
        assert sys.modules["wave"] is None
    assert sys.modules["wave"] is wave
    with module_as("no_such_module", wave):
        import no_such_module

        assert no_such_module is wave
    assert "no_such_module" not in sys.modules
