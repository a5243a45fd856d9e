"""What the tests of the loaders share: the real data where there are some, and a cache of their own."""

import gzip
import struct

import numpy as np
import pytest


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """An empty cache, and no data directory but the one that a test names."""
    monkeypatch.setenv("GNNLIB_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("GNNLIB_DATA", raising=False)
    return tmp_path / "cache"


@pytest.fixture
def write_mnist():
    """Writes the two idx files, gzipped, of one part of MNIST."""

    def write(folder, images, labels, part="train"):
        folder.mkdir(parents=True, exist_ok=True)
        for name, magic, array in (("images-idx3", 0x803, images), ("labels-idx1", 0x801, labels)):
            header = struct.pack(f">{1 + array.ndim}I", magic, *array.shape)
            (folder / f"{part}-{name}-ubyte.gz").write_bytes(gzip.compress(header + array.astype(np.uint8).tobytes()))

    return write
