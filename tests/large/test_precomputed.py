"""Precomputed propagation: equal to propagation in memory to the bit, in bounded memory, resumed and repaired."""

import json
import os

import numpy as np
import pytest
import torch

from gnnlib._platform.dgl import dgl
from gnnlib.benchmarks.peak_memory import peak, reset_peak
from gnnlib.large import precomputed as module
from gnnlib.large.precomputed import PropagatedFeatures, precompute_propagation, row_batches
from gnnlib.nn.propagation import Hops
from gnnlib.testing.graphs import random_graph, symmetric_graph

NUM, WIDTH, K = 11, 7, 3
MINIMUM = 3 * NUM * 4  # bytes: one column of float32


def write_features(folder, dtype=np.float32, num=NUM, width=WIDTH):
    feat = np.random.default_rng(0).standard_normal((num, width)).astype(dtype)
    np.save(folder / "x.npy", feat)
    return folder / "x.npy", torch.from_numpy(feat)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("columns", [1, 3, 100])
def test_files_equal_propagation_in_memory_to_the_bit(tmp_path, columns, dtype):
    graph = symmetric_graph(NUM)
    features, x = write_features(tmp_path, dtype)
    memory = columns * MINIMUM * np.dtype(dtype).itemsize // 4
    paths = precompute_propagation(graph, features, tmp_path / "hops", K, memory=memory)
    assert torch.equal(PropagatedFeatures(paths)[torch.arange(NUM)], Hops(K)(graph, x))
    assert [path.name for path in paths] == ["x.npy", "hop-1.npy", "hop-2.npy", "hop-3.npy"]
    hops = [name for path in paths[1:] for name in (path.name, f"{path.stem}.checksums.npy")]
    assert {path.name for path in (tmp_path / "hops").iterdir()} == {*hops, "hop-0.checksums.npy", "hops.json"}


def test_int32_graphs_and_isolated_nodes(tmp_path):
    graph = random_graph(idtype=torch.int32)
    features, x = write_features(tmp_path)
    paths = precompute_propagation(graph, features, tmp_path, 2, memory=2 * MINIMUM)
    assert torch.equal(PropagatedFeatures(paths)[torch.arange(NUM)], Hops(2)(graph, x))
    assert precompute_propagation(graph, features, tmp_path, 0) == [features]


class Killed(BaseException):
    pass


@pytest.mark.parametrize("stop", [1, 4, 8])
def test_an_interrupted_run_resumes_with_the_missing_columns(tmp_path, monkeypatch, stop):
    graph = symmetric_graph(NUM)
    features, x = write_features(tmp_path)
    calls, propagate = [], module.propagate

    def counting(*arguments):
        calls.append(1)
        if len(calls) == stop:
            raise Killed
        return propagate(*arguments)

    monkeypatch.setattr(module, "propagate", counting)
    with pytest.raises(Killed):
        precompute_propagation(graph, features, tmp_path, K, memory=2 * MINIMUM)
    paths = precompute_propagation(graph, features, tmp_path, K, memory=2 * MINIMUM)
    assert torch.equal(PropagatedFeatures(paths)[torch.arange(NUM)], Hops(K)(graph, x))
    assert len(calls) - stop == 12 - (stop - 1) // K * K
    assert not list(tmp_path.glob("*columns*"))


def test_a_run_interrupted_between_hops_resumes_with_other_memory(tmp_path, monkeypatch):
    graph = symmetric_graph(NUM)
    features, x = write_features(tmp_path)
    complete = module._Folder.complete

    def killed(self, i):
        complete(self, i)
        raise Killed

    monkeypatch.setattr(module._Folder, "complete", killed)
    with pytest.raises(Killed):
        precompute_propagation(graph, features, tmp_path, K, memory=MINIMUM)
    monkeypatch.undo()
    assert (tmp_path / "hop-1.npy").exists()
    assert not (tmp_path / "hop-2.npy").exists()
    paths = precompute_propagation(graph, features, tmp_path, K, memory=5 * MINIMUM)
    assert torch.equal(PropagatedFeatures(paths)[torch.arange(NUM)], Hops(K)(graph, x))
    assert not list(tmp_path.glob("*columns*"))


def test_damaged_hops_are_noticed_when_they_are_read(tmp_path):
    graph = symmetric_graph(NUM)
    features, x = write_features(tmp_path)
    paths = precompute_propagation(graph, features, tmp_path, K)
    hops = PropagatedFeatures(paths)
    assert torch.equal(hops[torch.tensor([-1, 4])], Hops(K)(graph, x)[[-1, 4]])
    for path in paths:  # the features, too
        content = path.read_bytes()
        for place in range(128, len(content), 3):
            path.write_bytes(content[:place] + bytes([content[place] ^ 16]) + content[place + 1 :])
            row = (place - 128) // (4 * WIDTH)
            with pytest.raises(ValueError, match=rf"{path}: expected row {row} as it was written, got a damaged one"):
                hops[torch.arange(NUM)]
        path.write_bytes(content)
    (tmp_path / "hop-2.checksums.npy").unlink()
    with pytest.raises(ValueError, match=r"hop-2.npy: expected a file of its rows' checksums; run precompute_"):
        PropagatedFeatures(paths)
    precompute_propagation(graph, features, tmp_path, K)
    (tmp_path / "hops.json").write_text("{}")
    with pytest.raises(ValueError, match=r"hops.json is damaged"):
        PropagatedFeatures(paths)


def test_a_damaged_note_is_not_believed(tmp_path):
    graph = symmetric_graph(NUM)
    features, x = write_features(tmp_path)
    paths = precompute_propagation(graph, features, tmp_path, K)
    note = tmp_path / "hops.json"
    for text in (note.read_text().replace('"edges": ', '"edges": 1'), note.read_text()[:-9], "[]"):
        note.write_text(text)
        with pytest.warns(RuntimeWarning, match=rf"{note} is damaged.*; its hops are computed again"):
            precompute_propagation(graph, features, tmp_path, K)
        assert torch.equal(PropagatedFeatures(paths)[torch.arange(NUM)], Hops(K)(graph, x))


def test_columns_of_other_inputs_are_not_used(tmp_path, monkeypatch):
    """A run is killed before its first hop is complete, and another one has other features."""
    graph = symmetric_graph(NUM)
    features, _ = write_features(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(module._Folder, "complete", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            precompute_propagation(graph, features, tmp_path, 1, memory=MINIMUM)
    x = np.load(features) + 1
    np.save(features, x)
    with pytest.raises(ValueError, match="name another folder"):
        precompute_propagation(graph, features, tmp_path, 1, memory=MINIMUM)


@pytest.mark.parametrize("damage", ["truncated", "changed", "missing"])
def test_damaged_hops_are_computed_again_and_complete_ones_are_not(tmp_path, monkeypatch, damage):
    graph = symmetric_graph(NUM)
    features, _ = write_features(tmp_path)
    paths = precompute_propagation(graph, features, tmp_path, K)
    first = os.stat(paths[1]).st_mtime_ns
    content = paths[2].read_bytes()
    if damage == "missing":
        paths[2].unlink()
    else:
        paths[2].write_bytes(content[:-8] + (b"" if damage == "truncated" else bytes(8)))
    precompute_propagation(graph, features, tmp_path, K)
    assert paths[2].read_bytes() == content
    assert os.stat(paths[1]).st_mtime_ns == first
    monkeypatch.setattr(module, "propagate", None)
    assert precompute_propagation(graph, features, tmp_path, K) == paths  # nothing is computed


def test_hops_of_other_inputs_are_refused(tmp_path):
    features, _ = write_features(tmp_path)
    precompute_propagation(symmetric_graph(NUM), features, tmp_path, 1)
    with pytest.raises(ValueError, match=r"expected hops of .*'edges': \d+.*, got those of .*name another folder"):
        precompute_propagation(symmetric_graph(NUM, seed=1), features, tmp_path, 1)
    np.save(features, np.load(features) + 1)
    with pytest.raises(ValueError, match="name another folder"):
        precompute_propagation(symmetric_graph(NUM), features, tmp_path, 1)
    assert set(json.loads((tmp_path / "hops.json").read_text())) == {
        "features",
        "edges",
        "hops",
        "file",
        "rows",
        "checksum",
    }


@pytest.mark.slow
def test_memory_is_bounded(tmp_path):
    num, width, memory = 16384, 512, 3 * 2**20  # 32 MiB of features
    src = torch.arange(num)
    graph = dgl.graph((torch.cat([src, src]), torch.cat([src.roll(1), src.roll(-7)])))
    features = np.lib.format.open_memmap(tmp_path / "x.npy", "w+", np.float32, (num, width))
    features[...] = np.arange(num)[:, None] % 13 + np.arange(width) / width
    del features
    Hops(1)(symmetric_graph(NUM), torch.ones(NUM, 2))  # compiles the kernels
    before = reset_peak()
    if before is None:
        pytest.skip("this system does not report peak memory")
    paths = precompute_propagation(graph, tmp_path / "x.npy", tmp_path, 2, memory=memory)
    growth = peak() - before
    rows = torch.tensor([5, 16000, 3])
    x = torch.from_numpy(np.load(tmp_path / "x.npy"))
    assert torch.equal(PropagatedFeatures(paths)[rows], Hops(2)(graph, x)[rows])
    assert growth < 16 * 2**20, "half of the features; 3 MiB are for features, the rest for the graph"


@pytest.mark.parametrize(
    ("feat", "error"),
    [
        (np.zeros((NUM + 1, 2), np.float32), r"expected features \(11, F\), .*, got \(12, 2\), float32, C order"),
        (np.zeros(NUM, np.float32), r"got \(11,\)"),
        (np.zeros((NUM, 2), np.float16), "got .*float16"),
        (np.asfortranarray(np.zeros((NUM, 2), np.float32)), "Fortran order"),
        (None, r"x.npy: expected 216 bytes, got 212"),
    ],
)
def test_invalid_features(tmp_path, feat, error):
    np.save(tmp_path / "x.npy", np.zeros((NUM, 2), np.float32) if feat is None else feat)
    if feat is None:
        os.truncate(tmp_path / "x.npy", 212)
    with pytest.raises(ValueError, match=error):
        precompute_propagation(symmetric_graph(NUM), tmp_path / "x.npy", tmp_path, 1)


def test_invalid_arguments(tmp_path):
    features, _ = write_features(tmp_path)
    with pytest.raises(ValueError, match=r"memory: expected 132 bytes or more for .* \(11, 7\), got 131"):
        precompute_propagation(symmetric_graph(NUM), features, tmp_path, 1, memory=MINIMUM - 1)
    with pytest.raises(ValueError, match="expected k >= 0, got -1"):
        precompute_propagation(symmetric_graph(NUM), features, tmp_path, -1)
    np.save(tmp_path / "y.npy", np.zeros((3, 3)))
    with pytest.raises(ValueError, match=r"expected files of one shape and type, got .*x.npy.*y.npy"):
        PropagatedFeatures([features, tmp_path / "y.npy"])


def test_rows_of_files_in_any_order(tmp_path):
    features, x = write_features(tmp_path)
    files = PropagatedFeatures([features, features])
    rows = torch.tensor([10, 0, 3, 3])
    assert torch.equal(files[rows], torch.stack([x[rows]] * 2, 1))
    assert len(files) == NUM
    assert files[rows[:0]].shape == (0, 2, WIDTH)


def test_row_batches_contain_each_row_once_and_follow_their_generator():
    x, target, rows = torch.rand(20, 2, 3), torch.arange(20), torch.arange(0, 20, 2)
    some = torch.Generator().manual_seed(0)
    epochs = [list(row_batches(x, target, rows, batch_size=4, generator=some)) for _ in range(2)]
    for epoch in epochs:
        assert [len(batch.target) for batch in epoch] == [4, 4, 2]
        assert sorted(torch.cat([batch.target for batch in epoch]).tolist()) == rows.tolist()
        assert all(torch.equal(batch.x, x[batch.target]) and batch.graph is None for batch in epoch)
    assert not torch.equal(epochs[0][0].target, epochs[1][0].target)
    again = list(row_batches(x, target, rows, batch_size=4, generator=torch.Generator().manual_seed(0)))
    assert all(torch.equal(a.target, b.target) for a, b in zip(again, epochs[0], strict=True))
