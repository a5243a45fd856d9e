"""PyTorch Geometric's tests of the layers in `gnnlib.compat.pyg_nn`, with the import replaced.

    git clone --depth 1 --branch 2.8.0.post1 https://github.com/pyg-team/pytorch_geometric
    python tests/compat/pyg_tests.py pytorch_geometric [--full]

The tests are copied to a temporary folder, the import of the names is replaced there, and both the original and the
copy run. The table has, for each file, the number of tests that pass of those that pass with PyG itself, and the number
of calls of layers that gnnlib's kernels computed. There, the kernels compute small calls too. ``--full`` adds the parts
with TorchScript.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as xml
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CONVS = [
    *("gcn_conv", "gat_conv", "gatv2_conv", "sage_conv", "graph_conv", "gin_conv", "sg_conv", "appnp", "cheb_conv"),
    *("nn_conv", "gmm_conv", "res_gated_graph_conv", "pna_conv", "gcn2_conv", "simple_conv", "lg_conv", "tag_conv"),
    *("arma_conv", "static_graph"),
]
NORMS = ["batch", "layer", "graph", "pair", "mean_subtraction", "diff_group", "instance"]
MODELS = ["basic_gnn", "mlp", "jumping_knowledge", "deepgcn"]
FILES = [
    *(f"nn/conv/test_{name}.py" for name in CONVS),
    *(f"nn/norm/test_{name}_norm.py" for name in NORMS),
    "nn/pool/test_glob.py",
    *(f"nn/models/test_{name}.py" for name in MODELS),
    "nn/test_sequential.py",
]
IMPORT = re.compile(r"^from torch_geometric\.nn(\.conv|\.models)? import", re.MULTILINE)
PLUGIN = """
import json
import os

import pytest
from gnnlib.compat.pyg_nn import calls
from gnnlib.compat.pyg_nn.models import LAYERS

for layer in LAYERS.values():
    layer.min_products = 0
COUNTS = {}

@pytest.fixture(autouse=True)
def _counted(request):
    before = calls.copy()
    yield
    counts = COUNTS.setdefault(request.module.__name__.split(".")[-1], [0, 0])
    for (_, library), number in (calls - before).items():
        counts[library != "gnnlib"] += number

def pytest_sessionfinish():
    with open(os.environ["COUNTS"], "w") as file:
        json.dump(COUNTS, file)
"""


def run(folder: Path, files: list[str], full: bool) -> tuple[dict[str, set[str]], dict[str, int]]:
    """The tests that pass and the number that is not skipped, by file."""
    report = folder / "report.xml"
    options = ["-q", "-p", "no:cacheprovider", "-o", "addopts=", "--import-mode=importlib"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "COUNTS": str(folder / "counts.json")}
    environment |= {"FULL_TEST": "1"} if full else {}
    command = [sys.executable, "-m", "pytest", "-c", os.devnull, "--rootdir", folder, *options]
    subprocess.run([*command, f"--junitxml={report}", *files], cwd=folder, env=environment, stdout=sys.stderr)
    passing: dict[str, set[str]] = {}
    ran: dict[str, int] = {}
    for case in xml.parse(report).iter("testcase"):
        name = case.get("classname", "").split(".")[-1]
        if case.find("skipped") is None:
            ran[name] = ran.get(name, 0) + 1
            if case.find("failure") is None and case.find("error") is None:
                passing.setdefault(name, set()).add(case.get("name", ""))
    return passing, ran


def copy(checkout: Path, folder: Path, files: list[str], swap: bool) -> None:
    for name in files:
        text = (checkout / "test" / name).read_text("utf-8")
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(IMPORT.sub("from gnnlib.compat.pyg_nn import", text) if swap else text, "utf-8")
    if swap:
        (folder / "conftest.py").write_text(PLUGIN, "utf-8")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("checkout", type=Path, help="folder with a checkout of pytorch_geometric")
    parser.add_argument("--full", action="store_true", help="also the parts with TorchScript")
    parser.add_argument("--only", default="", help="a part of the names of files")
    args = parser.parse_args()
    files = [name for name in FILES if args.only in name and (args.checkout / "test" / name).is_file()]
    if not files:
        parser.error(f"expected a checkout of pytorch_geometric with test/nn, got {args.checkout}")
    with tempfile.TemporaryDirectory() as original, tempfile.TemporaryDirectory() as swapped:
        copy(args.checkout, Path(original), files, swap=False)
        copy(args.checkout, Path(swapped), files, swap=True)
        expected, _ = run(Path(original), files, args.full)
        actual, _ = run(Path(swapped), files, args.full)
        counts = json.loads((Path(swapped) / "counts.json").read_text("utf-8"))
    print("| tests of PyG | passed with PyG | passed with gnnlib | calls on gnnlib's kernels | calls of PyG's code |")
    print("|---|---|---|---|---|")
    total = [0, 0, 0, 0]
    for name in files:
        module = Path(name).stem
        row = [len(expected.get(module, ())), len(expected.get(module, set()) & actual.get(module, set()))]
        row += counts.get(module, [0, 0])
        total = [a + b for a, b in zip(total, row, strict=True)]
        print(f"| `{name}` |", " | ".join(map(str, row)), "|")
    print("| all |", " | ".join(map(str, total)), "|")
    return int(total[0] != total[1])


if __name__ == "__main__":
    sys.exit(main())
