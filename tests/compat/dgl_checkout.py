"""Runs DGL's own tests and example scripts on `gnnlib.compat.dgl_nn`, from a checkout of DGL outside of the repository.

    git clone --branch v2.1.0 --depth 1 https://github.com/dmlc/dgl CHECKOUT
    python -m tests.compat.dgl_checkout tests CHECKOUT              # the layer tests: a table of what passes
    python -m tests.compat.dgl_checkout examples CHECKOUT           # the scripts: lines changed and accuracies
    python -m tests.compat.dgl_checkout examples CHECKOUT gcn gat   # some of them

Everything runs twice, with DGL's layers and with gnnlib's, in copies in a temporary folder. Their imports are changed
for the second run. The scripts read Cora and MUTAG from `gnnlib.datasets` in place of DGL's downloads; that of sampled
neighbours has Cora in place of ogbn-products. All are seeded, so that both runs draw the same numbers. The tests need
networkx. docs/guide/compat-dgl.md has the tables.
"""

import argparse
import ast
import os
import re
import runpy
import shutil
import subprocess
import sys
import tempfile
import types
import xml.etree.ElementTree as ElementTree
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gnnlib  # before dgl

ROOT = Path(__file__).resolve().parents[2]
LIBRARIES = ("DGL", "gnnlib")
TESTS = ("test_nn.py", "conv/test_gatedgcnconv.py")
TEST_IMPORT = "import dgl.nn.pytorch as nn", "import gnnlib.compat.dgl_nn as nn"
ACCURACY = re.compile(r"(?:Accuracy|accuracy|Acc\.|test_roc=|test_ap=) *([\d.]+)")


def environment(*paths: Path) -> dict[str, str]:
    """The variables of a process that imports from these folders, and gnnlib from this repository."""
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(map(str, (*paths, ROOT))),
        "DGLBACKEND": "pytorch",
        "PYTHONDONTWRITEBYTECODE": "1",
    }


# ---------------------------------------------------------------- tests


def copy_tests(checkout: Path, folder: Path, library: str) -> None:
    """Copies the tests of the layers, with the import changed."""
    for name in TESTS:
        source = (checkout / "tests/python/pytorch/nn" / name).read_text("utf-8")
        if library == "gnnlib":
            changed = source.replace(*TEST_IMPORT)
            if changed.count("\n") != source.count("\n") or changed == source:
                raise SystemExit(f"{name}: expected the line {TEST_IMPORT[0]!r}, got another version of DGL")
            source = changed
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(source, "utf-8")


def run_tests(checkout: Path, library: str) -> Counter[tuple[str, str]]:
    """The numbers of passed and of failed cases, by test function."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        copy_tests(checkout, folder, library)
        report = folder / "report.xml"
        pytest = [sys.executable, "-m", "pytest", "-q", "-p", "gnnlib", "-p", "no:cacheprovider", "--tb=short"]
        options = ["-c", os.devnull, "--rootdir", str(folder), f"--junitxml={report}", "-W", "ignore"]
        process = subprocess.run(
            [*pytest, *options, *map(str, (folder / name for name in TESTS))],
            env=environment(checkout / "tests"),
            cwd=folder,
            stdout=subprocess.PIPE,
            text=True,
            check=False,
        )
        if not report.exists():
            raise SystemExit(process.stdout)
        counts: Counter[tuple[str, str]] = Counter()
        for case in ElementTree.parse(report).iter("testcase"):
            wrong = case.find("failure") is not None or case.find("error") is not None
            skipped = case.find("skipped") is not None
            outcome = "failed" if wrong else "skipped" if skipped else "passed"
            counts[str(case.get("name")).partition("[")[0], outcome] += 1
        print("\n".join(line for line in process.stdout.splitlines() if line.startswith("FAILED")), file=sys.stderr)
        return counts


def layers_of_tests(checkout: Path) -> dict[str, tuple[str, ...]]:
    """The layers of `gnnlib.compat.dgl_nn` that each test function uses, of those that use one."""
    import gnnlib.compat.dgl_nn as dgl_nn

    layers = {}
    for name in TESTS:
        tree = ast.parse((checkout / "tests/python/pytorch/nn" / name).read_text("utf-8"))
        for function in tree.body:
            if isinstance(function, ast.FunctionDef) and function.name.startswith("test_"):
                used = {node.attr for node in ast.walk(function) if isinstance(node, ast.Attribute)}
                if used & set(dgl_nn.__all__):
                    layers[function.name] = tuple(sorted(used & set(dgl_nn.__all__)))
    return layers


def compare_tests(checkout: Path) -> None:
    """Prints a table in Markdown of the tests of shared layers, and the sums over all tests."""
    layers = layers_of_tests(checkout)
    counts = {library: run_tests(checkout, library) for library in LIBRARIES}
    print("| layers in a test | cases | passed with DGL | passed with gnnlib |\n|---|---|---|---|")

    def row(title: str, tests: Collection[str]) -> None:
        cases = sum(counts["DGL"][name, outcome] for name in tests for outcome in ("passed", "failed", "skipped"))
        passed = [sum(counts[library][name, "passed"] for name in tests) for library in LIBRARIES]
        print(f"| {title} | {cases} | {passed[0]} | {passed[1]} |")

    for used in sorted(set(layers.values())):
        row(", ".join(f"`{layer}`" for layer in used), [name for name in layers if layers[name] == used])
    row("all of these without `PNAConv`", layers.keys() - {"test_pna_conv"})
    row("all tests of DGL's layers", {name for name, _ in counts["DGL"]})


# ---------------------------------------------------------------- examples


@dataclass(frozen=True)
class Example:
    """A script of DGL: its folder and file, the file whose lines change, and the lines, old and new."""

    folder: str
    script: str
    changed: str
    lines: tuple[tuple[str, str], ...]
    arguments: tuple[str, ...] = ()


CORA = ("--", "--dataset=cora")  # an argument of the script, and none of this one
ALIAS = ("import dgl.nn as dglnn", "import gnnlib.compat.dgl_nn as dglnn")


def _from(module: str, name: str) -> tuple[str, str]:
    return f"from {module} import {name}", f"from gnnlib.compat.dgl_nn import {name}"


EXAMPLES = {
    "gcn": Example("gcn", "train.py", "train.py", (ALIAS,)),
    "gat": Example("gat", "train.py", "train.py", (ALIAS,)),
    "gin": Example("gin", "train.py", "train.py", (_from("dgl.nn.pytorch.conv", "GINConv"),)),
    "sgc": Example("sgc", "sgc.py", "sgc.py", (_from("dgl.nn.pytorch.conv", "SGConv"),), CORA),
    "appnp": Example("appnp", "train.py", "appnp.py", (_from("dgl.nn.pytorch.conv", "APPNPConv"),), CORA),
    "graphsage": Example("graphsage", "train_full.py", "train_full.py", (ALIAS,)),
    "graphsage-sampled": Example("graphsage", "node_classification.py", "node_classification.py", (ALIAS,)),
    "vgae": Example("vgae", "train.py", "model.py", (_from("dgl.nn.pytorch", "GraphConv"),)),
}


def run_example(checkout: Path, example: Example, library: str) -> tuple[float, str]:
    """The last accuracy that the script prints, and its last line."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(shutil.copytree(checkout / "examples/pytorch" / example.folder, Path(temporary) / "example"))
        if library == "gnnlib":
            path = folder / example.changed
            lines = path.read_text("utf-8").splitlines()
            for old, new in example.lines:
                lines[lines.index(old)] = new
            path.write_text("\n".join(lines), "utf-8")
        process = subprocess.run(
            [
                sys.executable,
                "-W",
                "ignore",
                "-m",
                "tests.compat.dgl_checkout",
                "script",
                example.script,
                *example.arguments,
            ],
            env=environment(folder),
            cwd=folder,
            stdout=subprocess.PIPE,
            text=True,
            check=False,
        )
        figures = ACCURACY.findall(process.stdout)
        if process.returncode or not figures:
            raise SystemExit(f"{example.folder}/{example.script} failed with {library}:\n{process.stdout[-2000:]}")
        return float(figures[-1]), process.stdout.strip().splitlines()[-1]


def compare_examples(checkout: Path, names: list[str]) -> None:
    """Prints a table in Markdown of the scripts."""
    print("| script | lines changed | accuracy with DGL | accuracy with gnnlib |\n|---|---|---|---|")
    for name in names or EXAMPLES:
        example = EXAMPLES[name]
        actual = [run_example(checkout, example, library)[0] for library in LIBRARIES]
        script = f"{example.folder}/{example.script}"
        print(f"| `{script}` | {len(example.lines)} | {actual[0]:.4f} | {actual[1]:.4f} |", flush=True)


class _Cora:
    """Stands for DGL's citation data sets and for that of ogbn-products."""

    num_classes = 7

    def __init__(self, *args: Any, transform: Any = None, reverse_edge: bool = True, **options: Any):
        import dgl

        from gnnlib.datasets import planetoid, row_normalise

        graph = planetoid("cora")
        if not reverse_edge:
            src, dst = graph.edges()
            graph = dgl.edge_subgraph(graph, src < dst, relabel_nodes=False, store_ids=False)
        graph.ndata["feat"] = row_normalise(graph.ndata["feat"])
        self.graph = graph if transform is None else transform(graph)

    def __getitem__(self, index: int) -> Any:
        return self.graph

    def __getattr__(self, name: str) -> Any:
        if name in ("train_idx", "val_idx", "test_idx"):
            return self.graph.ndata[name.replace("idx", "mask")].nonzero().squeeze(1)
        raise AttributeError(name)


class _Mutag:
    """Stands for DGL's data set of GIN."""

    dim_nfeats, gclasses = 7, 2

    def __init__(self, *args: Any, **options: Any):
        import dgl

        from gnnlib.datasets import tu

        graphs, self.labels = tu("MUTAG")
        self.graphs = [dgl.add_self_loop(graph) for graph in graphs]
        for graph in self.graphs:
            graph.ndata["attr"] = graph.ndata.pop("feat")

    def __len__(self) -> int:
        return len(self.graphs)

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        return self.graphs[index], self.labels[index]


def run_script(script: str, arguments: list[str]) -> None:
    """Runs a script of DGL in this process, with data of `gnnlib.datasets`, seeded."""
    import dgl
    import dgl.data
    import numpy as np
    import torch

    for name in ("CoraGraphDataset", "AsNodePredDataset"):
        setattr(dgl.data, name, _Cora)
    dgl.data.GINDataset = _Mutag
    metrics = types.ModuleType("torchmetrics.functional")
    metrics.accuracy = lambda y, labels, **options: (y.argmax(1) == labels).float().mean()  # type: ignore[attr-defined]
    ogb = types.ModuleType("ogb.nodeproppred")
    ogb.DglNodePropPredDataset = lambda name: name  # type: ignore[attr-defined]
    packages = {name: types.ModuleType(name) for name in ("torchmetrics", "ogb")}
    packages["torchmetrics"].functional = metrics  # type: ignore[attr-defined]
    sys.modules |= {**packages, "torchmetrics.functional": metrics, "ogb.nodeproppred": ogb}
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002 what the scripts draw from
    dgl.seed(0)
    sys.argv = [script, *arguments]
    runpy.run_path(script, run_name="__main__")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["tests", "examples", "script"])
    parser.add_argument("path", help="of the checkout")
    parser.add_argument("names", nargs="*", help=f"of {', '.join(EXAMPLES)}; none: all")
    args = parser.parse_args()
    if args.what == "script":
        run_script(args.path, args.names)
    elif args.what == "tests":
        compare_tests(Path(args.path).resolve())
    else:
        compare_examples(Path(args.path).resolve(), args.names)


if __name__ == "__main__":
    print(f"DGL {sys.modules['dgl'].__version__}, gnnlib {gnnlib.__version__}", file=sys.stderr)
    main()
