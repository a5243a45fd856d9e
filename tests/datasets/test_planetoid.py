"""Cora and PubMed as published, and a small network written in the same format, with CiteSeer's oddities."""

import io
import os
import pickle
import struct
from collections import defaultdict

import numpy as np
import pytest
import scipy.sparse
import torch

from gnnlib.datasets import FormatError, planetoid, row_normalise

CLASSES, FEATS, TRAIN, REST = 2, 3, 4, 510  # REST: rows of allx, the training nodes among them
TEST = [514, 510, 516, 512, 511]  # not in order; 513 and 515 have no node behind them
ZERO = 7  # a node of allx without a label, as some are


class Python2Pickler(pickle._Pickler):
    """Writes bytes as Python 2 wrote its strings, which is what Planetoid's files hold."""

    def save_string(self, obj):
        self.write(pickle.BINSTRING + struct.pack("<i", len(obj)) + obj)
        self.memoize(obj)

    dispatch = pickle._Pickler.dispatch | {bytes: save_string}


def dumps(obj, old_names=True):
    buffer = io.BytesIO()
    Python2Pickler(buffer, protocol=2).dump(obj)
    content = buffer.getvalue()
    if old_names:  # those of the numpy and scipy of 2016
        content = content.replace(b"cnumpy._core.multiarray\n", b"cnumpy.core.multiarray\n")
        content = content.replace(b"cscipy.sparse._csr\n", b"cscipy.sparse.csr\n")
    return content


def parts():
    """What the files of a small network hold."""
    rng = np.random.default_rng(0)
    allx, tx = rng.random((REST, FEATS)).astype(np.float32), rng.random((len(TEST), FEATS)).astype(np.float32)
    ally, ty = np.eye(CLASSES, dtype=np.int32)[np.arange(REST) % 2], np.eye(CLASSES, dtype=np.int32)[[0, 1, 1, 0, 1]]
    ally[ZERO] = 0
    # an edge listed in one direction, one in both, one twice, a self-loop; all else is isolated
    graph = defaultdict(list, {0: [1, 0], 2: [3], 3: [2], 4: [514, 514], 516: [510]})
    return {
        "y": ally[:TRAIN],
        "allx": scipy.sparse.csr_matrix(allx),
        "ally": ally,
        "tx": scipy.sparse.csr_matrix(tx),
        "ty": ty,
        "graph": graph,
        "test.index": TEST,
    }


def write(folder, old_names=True, **changed):
    folder.mkdir(parents=True, exist_ok=True)
    for part, value in {**parts(), **changed}.items():
        lines = "".join(f"{i}\n" for i in value).encode() if part == "test.index" else None
        content = value if isinstance(value, bytes) else lines or dumps(value, old_names)
        (folder / f"ind.citeseer.{part}").write_bytes(content)
    return folder


def edges(graph):
    return sorted(zip(*(ends.tolist() for ends in graph.edges())))


@pytest.mark.parametrize("old_names", [True, False])
@pytest.mark.parametrize("place", ["planetoid", "."])
def test_missing_test_ids_are_isolated_nodes(tmp_path, old_names, place):
    write(tmp_path / place, old_names)
    graph = planetoid("citeseer", tmp_path)
    expected = parts()
    assert graph.num_nodes() == 517
    assert edges(graph) == sorted([(0, 1), (1, 0), (2, 3), (3, 2), (4, 514), (514, 4), (510, 516), (516, 510)])
    feat, label = graph.ndata["feat"], graph.ndata["label"]
    assert np.array_equal(feat[:REST].numpy(), expected["allx"].toarray())
    assert np.array_equal(feat[TEST].numpy(), expected["tx"].toarray())
    assert label[TEST].tolist() == [0, 1, 1, 0, 1]
    assert label[:10].tolist() == [0, 1, 0, 1, 0, 1, 0, -1, 0, 1]
    assert not feat[[513, 515]].any()
    assert label[[513, 515]].tolist() == [-1, -1]
    masks = {part: graph.ndata[f"{part}_mask"].nonzero()[:, 0].tolist() for part in ("train", "val", "test")}
    assert masks == {"train": list(range(4)), "val": list(range(4, 504)), "test": sorted(TEST)}
    assert (feat.dtype, label.dtype, graph.ndata["val_mask"].dtype) == (torch.float32, torch.int64, torch.bool)


@pytest.mark.parametrize(
    ("name", "nodes", "pairs", "feats", "per_class"),
    [
        ("cora", 2708, 5278, 1433, [351, 217, 418, 818, 426, 298, 180]),
        ("pubmed", 19717, 44324, 500, [4103, 7739, 7875]),
    ],
)
def test_published_counts(data_dir, name, nodes, pairs, feats, per_class):
    if not (data_dir / "planetoid" / f"ind.{name}.graph").is_file():
        pytest.skip(f"no real data: {data_dir}/planetoid has no {name}")
    graph = planetoid(name, data_dir)
    assert graph.ndata["feat"].shape == (nodes, feats)
    assert graph.num_edges() == 2 * pairs
    assert graph.ndata["label"].bincount().tolist() == per_class
    assert graph.ndata["label"][graph.ndata["train_mask"]].bincount().tolist() == [20] * len(per_class)
    sizes = [int(graph.ndata[f"{part}_mask"].sum()) for part in ("train", "val", "test")]
    assert sizes == [20 * len(per_class), 500, 1000]
    pairs_of_graph = edges(graph)
    assert len(set(pairs_of_graph)) == len(pairs_of_graph)
    assert set(pairs_of_graph) == {(v, u) for u, v in pairs_of_graph}
    assert all(u != v for u, v in pairs_of_graph)
    if name == "cora":
        assert set(graph.ndata["feat"].unique().tolist()) == {0, 1}


class Evil:
    def __reduce__(self):
        return os.system, ("touch pwned",)


def hostile_matrix():
    """A sparse matrix with an index that points outside, and a check of its own that never fails."""
    matrix = scipy.sparse.csr_matrix(np.eye(3))
    matrix.indices[0] = 10**6
    matrix.check_format = defaultdict
    return matrix


@pytest.mark.parametrize(
    ("part", "value", "named"),
    [
        ("graph", dumps(Evil()), "posix.system"),
        ("allx", dumps({0: [Evil()]}), "posix.system"),
        ("ty", b"c__builtin__\neval\n(S'1'\ntR.", "__builtin__.eval"),
        ("ty", b"cnumpy\nload\n.", "numpy.load"),
        ("ty", b"\x80\x04\x8c\x08builtins\x8c\x07getattr\x93.", "builtins.getattr"),
        ("graph", b"(S'touch pwned'\nios\nsystem\n.", "os.system"),
        ("graph", b"c__builtin__\nlist.__class__\n.", "__builtin__.list.__class__"),
    ],
)
def test_a_foreign_class_is_named_and_never_called(tmp_path, monkeypatch, part, value, named):
    monkeypatch.chdir(tmp_path)
    write(tmp_path, **{part: value})
    with pytest.raises(FormatError, match=rf"ind\.citeseer\.{part}: expected a pickle of .*, got .* {named}$"):
        planetoid("citeseer", tmp_path)
    assert not (tmp_path / "pwned").exists()


@pytest.mark.parametrize("part", ["allx", "ty", "graph"])
def test_a_pickle_cut_anywhere_is_an_error(tmp_path, part):
    content = dumps(parts()[part])
    for cut in range(0, len(content), max(1, len(content) // 20)):
        write(tmp_path, **{part: content[:cut] or b" "})
        with pytest.raises(FormatError, match=rf"ind\.citeseer\.{part}: "):
            planetoid("citeseer", tmp_path)


@pytest.mark.parametrize(
    ("part", "value", "message"),
    [
        ("allx", hostile_matrix(), r"citeseer\.allx: expected a sparse matrix, got csr_matrix \(.*ind"),
        ("allx", [1, 2], r"citeseer\.allx: expected a sparse matrix, got list"),
        ("tx", scipy.sparse.csr_matrix((5, 4)), r"one width of features.*got 4 \(tx\), 3 \(allx\)"),
        ("ty", np.eye(3)[[0, 1, 2, 0, 1]], r"one of labels.*2 \(y\), 2 \(ally\), 3 \(ty\)"),
        ("ty", np.eye(2), r"citeseer\.ty: expected 5 rows, got 2"),
        ("ally", np.zeros((9, 2)), r"citeseer\.ally: expected 510 rows, got 9"),
        ("ally", np.zeros(9), r"citeseer\.ally: expected numbers of shape .*, got ndarray float64 \(9,\)"),
        ("y", [1], r"citeseer\.y: expected numbers of shape .*, got list"),
        ("y", np.zeros((20, 2)), r"expected 20 training nodes, 500 for validation .*got 510 rows in allx"),
        ("test.index", TEST[:4], r"citeseer\.test\.index: expected 5 rows, got 4"),
        ("test.index", [509, *TEST[1:]], r"test ids from 510 on, got .* ids from 509"),
        ("test.index", [510, *TEST[1:]], r"distinct test ids .*, 1 of them twice"),
        ("test.index", b"", r"citeseer\.test\.index: expected one node id per line, got none"),
        ("test.index", b"5.5\n", r"citeseer\.test\.index: expected one node id per line \(.*5\.5"),
        ("graph", {0: [517]}, r"citeseer\.graph: expected node ids from 0 to 516, got 0 to 517"),
        ("graph", {-1: [5]}, r"citeseer\.graph: expected node ids from 0 to 516, got -1 to 5"),
        ("graph", {0: ["a"]}, r"citeseer\.graph: expected a dictionary of lists of node ids"),
        ("graph", [[1]], r"citeseer\.graph: expected a dictionary of lists of node ids"),
        ("graph", {2**70: [0]}, r"citeseer\.graph: expected a dictionary of lists of node ids"),
    ],
)
def test_inconsistent_parts(tmp_path, part, value, message):
    write(tmp_path, **{part: value})
    with pytest.raises(FormatError, match=message):
        planetoid("citeseer", tmp_path)


def test_bad_names(tmp_path):
    for name in ("citeser", 5, None):
        with pytest.raises(ValueError, match=f"planetoid: expected one of cora, citeseer, pubmed, got {name!r}"):
            planetoid(name, tmp_path)


def test_names_are_those_of_the_paper_too(tmp_path):
    write(tmp_path)
    graphs = [planetoid(name, tmp_path) for name in ("citeseer", "CiteSeer", "CITESEER")]
    assert all(torch.equal(graph.ndata["feat"], graphs[0].ndata["feat"]) for graph in graphs)


def test_row_normalise():
    feat = torch.tensor([[1.0, 0, 1, 0], [0, 0, 0, 0], [0.5, 0, 0, 0]])
    assert row_normalise(feat).tolist() == [[0.5, 0, 0.5, 0], [0, 0, 0, 0], [1, 0, 0, 0]]
