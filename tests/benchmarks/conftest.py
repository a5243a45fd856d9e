"""What the tests of the benchmarks share: a place of their own for caches, and small twins of the data sets."""

import gzip
import pickle
import struct
import zipfile
from collections import defaultdict

import numpy as np
import pytest
import scipy.sparse
import torch


@pytest.fixture(autouse=True)
def _own_place(tmp_path, monkeypatch):
    """An empty cache, and no commit, which an edit would change."""
    monkeypatch.setenv("GNNLIB_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("GNNLIB_DEBUG", raising=False)
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "no-git"))


@pytest.fixture
def one_thread():
    """Small products gain nothing from a second thread, and on a busy machine they wait for it."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def twins(tmp_path):
    """Writers of small data sets in the published formats below one folder, which ``--data`` can name."""
    return Twins(tmp_path / "data")


class Twins:
    def __init__(self, folder):
        self.folder = folder
        folder.mkdir()

    def mnist(self, num_train=24, num_test=12):
        """Bright squares whose place is the class."""
        rng = np.random.default_rng(0)
        for part, num in (("train", num_train), ("t10k", num_test)):
            labels = np.arange(num) % 10
            images = rng.integers(0, 60, (num, 28, 28))
            for image, label in zip(images, labels):
                row, column = 3 + 12 * (label // 5), 2 + 5 * (label % 5)
                image[row : row + 9, column : column + 5] += 180
            self._idx(f"{part}-images-idx3-ubyte.gz", 0x803, images)
            self._idx(f"{part}-labels-idx1-ubyte.gz", 0x801, labels)
        return self.folder

    def _idx(self, name, magic, array):
        header = struct.pack(f">{1 + array.ndim}I", magic, *array.shape)
        path = self.folder / "mnist" / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(gzip.compress(header + array.astype(np.uint8).tobytes()))

    def heterophilous(self, name, num_nodes=60, num_splits=10):
        """Two classes, which the features tell."""
        rng = np.random.default_rng(0)
        label = np.arange(num_nodes) % 2
        part = rng.integers(0, 3, (num_splits, num_nodes))
        arrays = {"node_features": rng.random((num_nodes, 4)) + label[:, None], "node_labels": label}
        arrays |= {"edges": rng.integers(0, num_nodes, (150, 2))}
        arrays |= {f"{name}_masks": part == i for i, name in enumerate(("train", "val", "test"))}
        folder = self.folder / "heterophilous"
        folder.mkdir(exist_ok=True)
        np.savez(folder / f"{name.replace('-', '_')}.npz", **arrays)
        return self.folder

    def planetoid(self, name="cora", num_feats=1433, num_classes=7):
        """As wide as the published network and with as many classes, with fewer nodes."""
        rng = np.random.default_rng(0)
        per_class, num_rest, num_test = 2, 520, 21
        label = np.concatenate([np.arange(n) % num_classes for n in (num_rest, num_test)])
        feat = rng.random((len(label), num_feats)) < 0.02
        feat[np.arange(len(label)), label] = True
        link = rng.integers(0, len(label), (2, 1500))
        link = link[:, label[link[0]] == label[link[1]]]
        graph = defaultdict(list)
        for u, v in link.T.tolist():
            graph[u].append(v)
            graph[v].append(u)
        one_hot, sparse = np.eye(num_classes, dtype=np.int32)[label], scipy.sparse.csr_matrix(feat.astype(np.float32))
        parts = {
            "y": one_hot[: per_class * num_classes],
            "allx": sparse[:num_rest],
            "ally": one_hot[:num_rest],
            "tx": sparse[num_rest:],
            "ty": one_hot[num_rest:],
            "graph": graph,
        }
        folder = self.folder / "planetoid"
        folder.mkdir(exist_ok=True)
        for part, value in parts.items():
            (folder / f"ind.{name}.{part}").write_bytes(pickle.dumps(value, protocol=3))
        (folder / f"ind.{name}.test.index").write_text("".join(f"{num_rest + i}\n" for i in range(num_test)))
        return self.folder

    def mutag(self, num_graphs=40, name="MUTAG", **further):
        """Rings of class 1 and stars of class -1, on seven kinds of atom; ``further`` tables are rows of text."""
        edges, owner, labels = [], [], []
        for g in range(num_graphs):
            first, size = len(owner) + 1, 4 + g % 3
            owner += [g + 1] * size
            ring = g % 2 == 0
            labels.append(1 if ring else -1)
            pairs = [(i, (i + 1) % size) for i in range(size)] if ring else [(0, i) for i in range(1, size)]
            edges += [(first + u, first + v) for pair in pairs for u, v in (pair, pair[::-1])]
        tables = {
            "A": [f"{u}, {v}" for u, v in edges],
            "graph_indicator": owner,
            "node_labels": [i % 7 for i in range(len(owner))],
            "graph_labels": labels,
        }
        with zipfile.ZipFile(self.folder / f"{name}.zip", "w") as archive:
            for table, rows in {**tables, **further}.items():
                archive.writestr(f"{name}/{name}_{table}.txt", "".join(f"{row}\n" for row in rows))
        return self.folder
