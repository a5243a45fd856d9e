"""Matrices in .npy files: hops with checksums, and features without."""

import os

import numpy as np
import torch

from gnnlib.large import NpyMatrix, PropagatedFeatures, precompute_propagation
from gnnlib.testing.graphs import symmetric_graph
from tests.attack.kinds import Kind, Mutation
from tests.attack.mutators import damage

__all__ = ["Tables"]

NUM, K = 40, 2
HEADERS = [
    "{'descr': '<f4', 'fortran_order': False, 'shape': (40, 70), }",
    "{'descr': '<f4', 'fortran_order': False, 'shape': (-40, -7), }",
    "{'descr': '<f4', 'fortran_order': False, 'shape': (4000000000, 7000000000), }",
    "{'descr': '<f4', 'fortran_order': False, 'shape': (280,), }",
    "{'descr': '<f4', 'fortran_order': True, 'shape': (40, 7), }",
    "{'descr': '|O', 'fortran_order': False, 'shape': (40, 7), }",
    "{'descr': '<U4', 'fortran_order': False, 'shape': (40, 7), }",
    "{'descr': [('x', '|O')], 'fortran_order': False, 'shape': (40, 7), }",
    "{'descr': '>f4', 'fortran_order': False, 'shape': (40, 7), }",
    "{'descr': '<f8', 'fortran_order': False, 'shape': (20, 7), }",
    f"{{'descr': '<f4', 'fortran_order': False, 'shape': {(1,) * 70}, }}",
    "{'descr': '<f4', 'fortran_order': False, 'shape': " + "(" * 3000 + ")" * 3000 + ", }",
    "__import__('os').system('true')",
    "[x for x in ().__class__.__mro__]",
]


class Tables(Kind):
    names = (".npy", "hops.json")
    variants = ("hops", "features")

    def make(self, variant, folder):
        np.save(folder / "x.npy", np.random.default_rng(0).standard_normal((NUM, 7)).astype(np.float32))
        if variant == "hops":
            precompute_propagation(symmetric_graph(NUM), folder / "x.npy", folder, K)

    def mutate(self, variant, folder, draw):
        path = draw.choice(sorted(folder.iterdir()))
        kind = draw.choice(["bytes", "bytes", "header", "late", "missing", "exchanged"])
        if kind == "header" and path.suffix == ".npy":
            write_header(path, draw.choice(HEADERS))
        elif kind == "late":
            size = draw.randrange(path.stat().st_size)
            return Mutation(f"{path.name} {kind}", late=lambda: os.truncate(path, size))
        elif kind == "missing":
            path.unlink()
        elif kind == "exchanged":
            other = draw.choice(sorted(folder.iterdir()))
            content, others = path.read_bytes(), other.read_bytes()
            path.write_bytes(others)
            other.write_bytes(content)
        else:
            kind = damage(path, draw)
        return Mutation(f"{path.name} {kind}", forged=variant == "features")

    errors = (ValueError, FileNotFoundError)

    def read(self, variant, folder, mutation):
        names = ["x.npy", *(f"hop-{i}.npy" for i in range(1, K + 1) if variant == "hops")]
        features = PropagatedFeatures([folder / name for name in names])
        mutation.late()
        number = len(features)
        rows = torch.randint(number, (50,), generator=torch.Generator().manual_seed(0)) if number else torch.empty(0)
        by_rows = [features[rows].tolist(), features[[-1, 0] if number else []].tolist()]
        blocks = [block.tolist() for block in NpyMatrix.open(folder / names[0]).blocks(7)]
        return [by_rows, blocks if variant == "features" else None]


def write_header(path, text):
    """Replaces the header of an .npy file."""
    content = path.read_bytes()
    start = 10 + int.from_bytes(content[8:10], "little")
    head = text.encode("latin1") + b"\n"
    path.write_bytes(content[:8] + len(head).to_bytes(2, "little") + head + content[start:])
