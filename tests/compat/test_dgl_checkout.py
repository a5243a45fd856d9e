"""The runner of DGL's tests counts cases, and its second run has gnnlib's layers."""

import pytest

from tests.compat import dgl_checkout

SOURCE = """import dgl.nn.pytorch as nn
import pytest


@pytest.mark.parametrize("kind", ["SumPooling", "MaxPooling"])
def test_home(kind):
    assert nn.AvgPooling.__module__.startswith("dgl.") or kind == "SumPooling"


def test_of_dgl():
    assert nn.HGTConv.__module__.startswith("dgl.")
"""


@pytest.mark.process
@pytest.mark.slow
def test_table_of_tests(tmp_path, capsys):
    folder = tmp_path / "tests/python/pytorch/nn"
    (folder / "conv").mkdir(parents=True)
    (folder / "test_nn.py").write_text(SOURCE)
    (folder / "conv/test_gatedgcnconv.py").write_text(SOURCE.partition("\n\n\n")[0] + "\n")
    dgl_checkout.compare_tests(tmp_path)
    rows = capsys.readouterr().out.splitlines()
    assert rows[2:] == [
        "| `AvgPooling` | 2 | 2 | 1 |",
        "| all of these without `PNAConv` | 2 | 2 | 1 |",
        "| all tests of DGL's layers | 3 | 3 | 2 |",
    ]


def test_another_version_of_dgl_is_refused(tmp_path):
    (tmp_path / "tests/python/pytorch/nn").mkdir(parents=True)
    (tmp_path / "tests/python/pytorch/nn/test_nn.py").write_text("import dgl.nn as nn\n")
    with pytest.raises(SystemExit, match=r"expected the line 'import dgl.nn.pytorch as nn'"):
        dgl_checkout.copy_tests(tmp_path, tmp_path, "gnnlib")
