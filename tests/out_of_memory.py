"""Hops of features that do not fit the memory allowed: ``python -m tests.out_of_memory --gib 4 --limit 1``.

A process whose own memory the system limits (RLIMIT_DATA; what libraries take counts) makes them, another compares some
columns with hops made in memory, to the bit. It takes up to k + 2 times the features' room in --folder.
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

from benchmarks.speed.measure import peak
from gnnlib._dgl import dgl
from gnnlib.hops import hops_to_disk
from gnnlib.propagation import Hops
from gnnlib.transforms import add_self_loop

WIDTH, BLOCK = 1024, 4096
GIB = 2**30


def graph_of(num_nodes: int) -> dgl.DGLGraph:
    """Four links a node, to anywhere, and self-loops."""
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
    hops_to_disk(graph_of(num_nodes), folder / "x.npy", folder, k, memory=limit // 4)
    print(f"made in {time.monotonic() - start:.0f} s; {peak() / 2**20:.0f} MiB resident at most", flush=True)


def compare(folder: Path, num_nodes: int, k: int) -> None:
    """The first, middle and last columns, with hops in memory."""
    graph, some = graph_of(num_nodes), [0, WIDTH // 2, WIDTH - 1]

    def columns(path: Path) -> torch.Tensor:
        return torch.from_numpy(np.load(path, mmap_mode="r")[:, some])

    expected = Hops(k)(graph, columns(folder / "x.npy"))
    for i in range(1, k + 1):
        assert torch.equal(columns(folder / f"hop-{i}.npy"), expected[:, i]), f"hop {i} differs"
    print(f"hops 1 to {k}: the bits of those in memory, in columns {some}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gib", type=float, default=4, help="of features")
    parser.add_argument("--limit", type=float, default=1, help="GiB of memory")
    parser.add_argument("--hops", type=int, default=2)
    parser.add_argument("--folder", type=Path, help="where files lie meanwhile (a temporary one)")
    parser.add_argument("--make", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    num_nodes, limit = int(asked.gib * GIB) // (4 * WIDTH), int(asked.limit * GIB)
    if asked.make:
        return make(asked.folder, num_nodes, asked.hops, limit)
    with tempfile.TemporaryDirectory(dir=asked.folder) as folder:
        write_features(Path(folder) / "x.npy", num_nodes)
        size = (Path(folder) / "x.npy").stat().st_size / 2**20
        print(f"{num_nodes} nodes, {size:.0f} MiB of features, {limit / 2**20:.0f} MiB of memory allowed", flush=True)
        command = [sys.executable, "-m", "tests.out_of_memory", *sys.argv[1:], "--make", "--folder", folder]
        subprocess.run(command, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
        compare(Path(folder), num_nodes, asked.hops)


if __name__ == "__main__":
    main()
