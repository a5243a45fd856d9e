"""A process in which DGL cannot be imported: what the library does there, and what it says of what it cannot do."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.process

ROOT = Path(__file__).parents[1]
PROGRAM = """
import sys

sys.modules["dgl"] = None  # its import fails
import importlib.util
import pkgutil
import warnings
from functools import partial

import numpy as np
import torch

import gnnlib
from gnnlib import GCNConv, GraphStore, Stack, readout_mean
from gnnlib.benchmarks.__main__ import main
from gnnlib.grid import lattice
from gnnlib.images import pixel_graph, superpixel_graph
from gnnlib.large import clusters, sampled_batches
from gnnlib._platform.dgl import dgl
from gnnlib.large.partitions import open_dist_graph, partition_graph
from gnnlib.train import evaluate, fit

folder = sys.argv[1]
graph = gnnlib.Graph(([0, 1, 2], [1, 2, 0]), ndata={"feat": torch.ones(3, 8), "label": torch.arange(3)})
print("layer", tuple(GCNConv(8, 4)(graph, graph.ndata["feat"]).shape))

images = np.random.default_rng(0).random((24, 8, 8, 3))
images[::2] *= 0.2
store = GraphStore([superpixel_graph(image, num_segments=6, k=2) for image in images], labels=[0, 1] * 12)
kinds = {type(g).__name__ for g in (store[0], store.batch([0, 1]), lattice((3, 3), 3), pixel_graph((3, 3)))}
print("kinds", kinds)

torch.manual_seed(0)
model = Stack.build(GCNConv, 3, 8, 2, num_layers=2, readout=readout_mean)
fit(model, store, optimizer=partial(torch.optim.Adam, lr=0.1), epochs=40)
print("accuracy", evaluate(model, store)["accuracy"])

main(["run", "digits", "--layers", "gcn", "--limit", "64", "--epochs", "1", "--out", folder])

x, label, nodes = graph.ndata["feat"], graph.ndata["label"], torch.arange(3)
options = {"fanouts": [2], "batch_size": 2, "generator": torch.Generator()}
calls = {
    "accelerate": gnnlib.accelerate,
    "clusters": lambda: clusters(graph, 2),
    "sampled_batches": lambda: next(iter(sampled_batches(graph, x, label, nodes, **options))),
    "partition_graph": lambda: partition_graph(graph, dict.fromkeys(("train", "valid", "test"), nodes), 1, folder),
    "open_dist_graph": lambda: open_dist_graph(folder),
    "Graph.to_dgl": graph.to_dgl,
    "dgl.graph": lambda: dgl.graph(([0], [1])),
}
warnings.simplefilter("ignore")  # PyTorch Geometric's
modules = [module.name for module in pkgutil.walk_packages(gnnlib.__path__, "gnnlib.") if "__main__" not in module.name]
needs_triton = () if importlib.util.find_spec("triton") else "gnnlib.kernels.cuda"
for module in modules:
    if module.startswith(needs_triton):
        continue
    calls[module] = partial(importlib.import_module, module)
for name, call in calls.items():
    try:
        call()
    except ImportError as error:
        print("error", error)
"""
REASON = (
    ": expected DGL, which is not installed; install it with pip install 'dgl>=1.1.3,<3' (Python 3.10 to 3.12), "
    "or gnnlib install-dgl"
)
NEED_DGL = ["accelerate", "clusters", "sampled_batches", "partition_graph", "open_dist_graph", "Graph.to_dgl"]


def test_library_runs(tmp_path):
    environment = {k: v for k, v in os.environ.items() if not k.startswith("DGL")} | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-W", "error", "-c", PROGRAM, str(tmp_path / "results")]
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    output = dict(line.split(" ", 1) for line in done.stdout.splitlines() if " " in line)
    assert output["layer"] == "(3, 4)"
    assert output["kinds"] == "{'Graph'}"
    assert float(output["accuracy"]) > 0.8
    assert len(list((tmp_path / "results").glob("digits*/gcn/result.json"))) == 1
    errors = [line.removeprefix("error ") for line in done.stdout.splitlines() if line.startswith("error ")]
    assert sorted(set(errors)) == sorted(f"{name}{REASON}" for name in [*NEED_DGL, "dgl.graph", "gnnlib.compat.dgl_nn"])
