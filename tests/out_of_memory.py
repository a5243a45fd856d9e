"""Propagated features that exceed the memory limit: ``python -m tests.out_of_memory --gib 4 --limit 1``.

A process whose own memory the system limits (RLIMIT_DATA; what libraries take counts) makes them and trains SGC on
them; another makes hops in memory, of an eighth of the columns at a time, compares all of them to the bit, and trains
on rows that come from there. It takes up to k + 2 times the features' room in --folder.
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn

from gnnlib._platform.dgl import dgl
from gnnlib.benchmarks.peak_memory import peak
from gnnlib.graph import add_self_loop
from gnnlib.large.precomputed import PropagatedFeatures, precompute_propagation, row_batches
from gnnlib.nn.propagation import Hops
from gnnlib.nn.stack import Stack
from gnnlib.train.loop import fit

WIDTH, BLOCK = 1024, 4096
GIB = 2**30


def graph_of(num_nodes: int) -> dgl.DGLGraph:
    """Four random links per node, and self-loops."""
    src, dst = np.random.default_rng(0).integers(0, num_nodes, (2, 2 * num_nodes), np.int32)
    ends = (torch.from_numpy(np.concatenate(pair)) for pair in ((src, dst), (dst, src)))
    return add_self_loop(dgl.graph(tuple(ends), num_nodes=num_nodes))


def write_features(path: Path, num_nodes: int) -> None:
    with open(path, "wb") as file:
        kind = {"descr": "<f4", "fortran_order": False, "shape": (num_nodes, WIDTH)}
        np.lib.format.write_array_header_1_0(file, kind)
        rng = np.random.default_rng(1)
        for first in range(0, num_nodes, BLOCK):
            rng.standard_normal((min(BLOCK, num_nodes - first), WIDTH), np.float32).tofile(file)


def make(folder: Path, num_nodes: int, k: int, limit: int) -> None:
    torch.set_num_threads(1)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    start = time.monotonic()
    precompute_propagation(graph_of(num_nodes), folder / "x.npy", folder, k, memory=limit // 4)
    print(f"made in {time.monotonic() - start:.0f} s; {peak() / 2**20:.0f} MiB resident at most", flush=True)
    torch.save(sgc(PropagatedFeatures([folder / f"hop-{k}.npy"]), num_nodes), folder / "sgc.pt")
    print(f"SGC trained on them; {peak() / 2**20:.0f} MiB resident at most", flush=True)


def sgc(x: PropagatedFeatures | torch.Tensor, num_nodes: int) -> dict[str, torch.Tensor]:
    """The weights after an epoch over every 64th node, of ten classes at random; ``x`` has features (n, 1, WIDTH)."""
    generator = torch.Generator().manual_seed(0)
    label, rows = torch.randint(10, (num_nodes,), generator=generator), torch.arange(0, num_nodes, 64)
    torch.manual_seed(0)
    model = Stack([], head=nn.Sequential(nn.Flatten(), nn.Linear(WIDTH, 10)))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    fit(
        model,
        lambda: row_batches(x, label, rows, batch_size=512, generator=generator),
        nn.functional.cross_entropy,
        optimizer,
        1,
    )
    return model.state_dict()


def compare(folder: Path, num_nodes: int, k: int) -> None:
    """All columns of all hops, and what SGC learns of the last, with hops in memory."""
    torch.set_num_threads(1)
    graph, last = graph_of(num_nodes), torch.zeros(num_nodes, 1, WIDTH)
    for columns in np.split(np.arange(WIDTH), 8):
        part = slice(columns[0], columns[-1] + 1)

        def load(name: str, part: slice = part) -> torch.Tensor:
            return torch.from_numpy(np.load(folder / name, mmap_mode="r")[:, part].copy())

        expected = Hops(k)(graph, load("x.npy"))
        for i in range(1, k + 1):
            assert torch.equal(load(f"hop-{i}.npy"), expected[:, i]), f"hop {i} differs in columns {part}"
        last[::64, 0, part] = expected[::64, k]
    print(f"hops 1 to {k}: the bits of those in memory, in all {WIDTH} columns", flush=True)
    weights, expected = torch.load(folder / "sgc.pt", weights_only=True), sgc(last, num_nodes)
    assert all(torch.equal(weights[name], expected[name]) for name in expected), "SGC differs"
    print("SGC: the same weights")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gib", type=float, default=4, help="of features")
    parser.add_argument("--limit", type=float, default=1, help="GiB of memory")
    parser.add_argument("--hops", type=int, default=2)
    parser.add_argument("--folder", type=Path, help="where files lie meanwhile (a temporary one)")
    parser.add_argument("--make", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    num_nodes, limit = int(options.gib * GIB) // (4 * WIDTH), int(options.limit * GIB)
    if options.make:
        return make(options.folder, num_nodes, options.hops, limit)
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        write_features(Path(folder) / "x.npy", num_nodes)
        size = (Path(folder) / "x.npy").stat().st_size / 2**20
        print(f"{num_nodes} nodes, {size:.0f} MiB of features, {limit / 2**20:.0f} MiB of memory allowed", flush=True)
        command = [sys.executable, "-m", "tests.out_of_memory", *sys.argv[1:], "--make", "--folder", folder]
        subprocess.run(command, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
        compare(Path(folder), num_nodes, options.hops)


if __name__ == "__main__":
    main()
