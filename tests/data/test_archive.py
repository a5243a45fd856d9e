"""Stores that somebody else wrote, or that a disk has changed: nothing outside the arrays is read."""

import json
import os

import numpy as np
import pytest
import torch

from gnnlib import GraphStore, adjacency
from gnnlib._utils.documents import seal
from gnnlib.data import archive
from gnnlib.data.layout import BLOCK
from tests.attack.kinds.stores import content, seal_store, write_store


@pytest.fixture
def folder(tmp_path):
    write_store(tmp_path)
    return tmp_path


def header(folder):
    return json.loads((folder / "store.json").read_text())


def change(folder, change):
    """Applies a function to the header, and seals it."""
    document = header(folder)
    change(document["columns"])
    (folder / "store.json").write_text(json.dumps(document))
    seal_store(folder)


def put(folder, name, place, value):
    """Puts a number into an array, and seals the store."""
    column = header(folder)["columns"][name]
    with open(folder / "columns.bin", "r+b") as file:
        file.seek(column["place"] + place * np.dtype(column["dtype"]).itemsize)
        file.write(np.array(value, column["dtype"]).tobytes())
    seal_store(folder)


def read_all(folder):
    store = GraphStore.open(folder)
    return [content(store, [i]) for i in range(len(store))]


def test_an_intact_store_is_read(folder):
    expected = read_all(folder)
    seal_store(folder)
    assert read_all(folder) == expected
    assert len(expected) == 12


@pytest.mark.parametrize("blocks", [1, 64])
def test_any_changed_byte_is_noticed(tmp_path, monkeypatch, blocks):
    """When the store is opened, or when a graph is read; bytes that pad the arrays hold nothing."""
    write_store(tmp_path, width=2**10)
    monkeypatch.setattr(archive, "SPREAD", blocks)
    path = tmp_path / "columns.bin"
    expected, data = read_all(tmp_path), path.read_bytes()
    assert len(data) > 2 * BLOCK
    noticed = 0
    for place in np.random.default_rng(0).integers(0, len(data), 60):
        path.write_bytes(data[:place] + bytes([data[place] ^ 4]) + data[place + 1 :])
        content, error = attempt(tmp_path)
        assert content in (expected, None)
        assert content or f"{tmp_path}: expected an intact store of graphs; columns.bin" in error
        noticed += content is None
    assert noticed > 55


def attempt(folder):
    """The content, or the error."""
    try:
        return read_all(folder), None
    except ValueError as error:
        return None, str(error)


@pytest.mark.parametrize("name", ["src", "dst", "csc indices", "csc eid", "csr indices", "csr eid"])
@pytest.mark.parametrize("value", [-1, -(2**15), 40, 2**15 - 1])
def test_numbers_out_of_range(folder, name, value):
    put(folder, f"ends.{name}", 4, value)
    store = GraphStore.open(folder)
    with pytest.raises(ValueError, match=r"columns.bin: graph \d+: expected the same edges in COO and CS[CR], got"):
        [store.batch([i]) for i in range(len(store))]


@pytest.mark.parametrize("name", ["starts.csc", "starts.csr", "ends.csc eid", "ends.csr eid", "ends.src", "ends.dst"])
def test_csc_and_csr_of_other_edges(folder, name):
    """Each number is that of an edge or a node, but the arrays contradict each other."""
    column = header(folder)["columns"][name]
    data = np.frombuffer((folder / "columns.bin").read_bytes(), column["dtype"], column["shape"][0], column["place"])
    different = next(i for i in range(1, len(data)) if data[i] != data[i - 1] and data[i] > 0 < data[i - 1])
    put(folder, name, different, data[different - 1])
    with pytest.raises(ValueError, match=r"columns\.bin: graph \d+: expected the same edges in COO and CS[CR]"):
        read_all(folder)


@pytest.mark.parametrize("name", ["nodes", "edges"])
@pytest.mark.parametrize(("place", "value"), [(0, 1), (0, -1), (3, 2**40), (3, -5), (12, 2**31), (12, 0)])
def test_bounds_of_graphs(folder, name, place, value):
    put(folder, name, place, value)
    with pytest.raises(
        ValueError, match=rf"columns.bin: (expected ascending bounds of {name} from 0|\w+\..*: expected)"
    ):
        GraphStore.open(folder)


COLUMNS = [
    (lambda c: c.pop("ends.src"), "expected columns nodes, .*, got"),
    (lambda c: c["nodes"].update(dtype="object"), "column nodes: expected a type of int64, got 'object'"),
    (lambda c: c["ndata.feat"].update(dtype="O"), "column ndata.feat: expected a type of bool, .*, got 'O'"),
    (lambda c: c["ends.src"].update(dtype="float32"), "column ends.src: expected a type of int16, int32, got"),
    (
        lambda c: c["ends.src"].update(dtype="int32", shape=[1]),
        "columns of starts and ends: expected one type, got int16",
    ),
    (lambda c: c["ends.src"].update(shape=[-5]), r"column ends.src: expected a shape of 1 size, got \[-5\]"),
    (lambda c: c["ndata.feat"].update(shape=[1] * 65), "column ndata.feat: expected a shape of 1 to 32 sizes"),
    (lambda c: c["ndata.feat"].update(shape=[]), "column ndata.feat: expected a shape of 1 to 32 sizes"),
    (lambda c: c["ndata.feat"].update(shape=[10**9]), "column ndata.feat: expected an end within"),
    (lambda c: c["ndata.feat"].update(shape=[10**30]), "column ndata.feat: expected a shape"),
    (lambda c: c["ndata.feat"].update(shape=[5, 3]), r"columns.bin: ndata.feat: expected \d+ rows, got 5"),
    (lambda c: c["ends.dst"].update(place=-64), "column ends.dst: expected a place that is a multiple of 64, got -64"),
    (lambda c: c["ends.dst"].update(place=2**40), "column ends.dst: expected an end within"),
    (lambda c: c["ends.dst"].update(place=1), "column ends.dst: expected a place that is a multiple of 64, got 1"),
    (lambda c: c["labels"].update(shape=[5]), "column labels: expected 12 rows, got 5"),
    (lambda c: c["edges"].update(shape=[5]), "column edges: expected 13 rows, got 5"),
    (lambda c: c["nodes"].update(shape=[1]), "column nodes: expected 2 rows or more, got 1"),
    (lambda c: c.update({"ndata": c["nodes"]}), "."),
    (lambda c: c.update({"other.x": c["nodes"]}), "column other.x: expected a name of a column"),
    (lambda c: c.pop("ends.csr eid"), "columns ends.csr indices and ends.csr eid: expected both or none, got one"),
    (lambda c: c.update({"ends.csr eid": 5}), "column ends.csr eid: expected dtype, shape and place, got 5"),
    (lambda c: c["checksums"].update(shape=[7]), r"column checksums: expected \d+ rows, got 7"),
]


@pytest.mark.parametrize("columns", [None, 5, [], "nodes", {}])
def test_no_columns_at_all(folder, columns):
    document = {**header(folder), "columns": columns}
    (folder / "store.json").write_text(json.dumps(seal(document)))
    with pytest.raises(ValueError, match=r"store\.json: expected columns nodes, .*, got"):
        GraphStore.open(folder)


@pytest.mark.parametrize(("forge", "message"), COLUMNS, ids=range(len(COLUMNS)))
def test_columns_outside_the_file(folder, forge, message):
    change(folder, forge)
    with pytest.raises(ValueError, match=rf"{folder}: expected an intact store of graphs; .*{message}"):
        GraphStore.open(folder)


@pytest.mark.parametrize("late", [False, True])
def test_a_file_that_is_cut_off_after_it_was_opened(folder, late):
    store = GraphStore.open(folder)
    batch = store.batch(range(12)) if late else None
    os.truncate(folder / "columns.bin", 64)
    for read in [lambda: store.batch([1])] + ([lambda: adjacency(batch)] if late else []):
        with pytest.raises(ValueError, match=r"columns.bin: expected \d+ bytes, got 64; it was cut off"):
            read()


def test_a_store_that_is_replaced_stays_open(folder):
    store = GraphStore.open(folder)
    expected = content(store, [3, 1])
    write_store(folder, num_graphs=3, seed=1)
    assert content(store, [3, 1]) == expected
    assert len(GraphStore.open(folder)) == 3


def test_each_graph_is_verified_once(folder):
    store = GraphStore.open(folder)
    guard, calls = store._flat.guard, []
    object.__setattr__(guard.flat, "check", lambda indices: calls.append(indices.tolist()))
    for chosen in ([3, 1, 3], [1, 2], [2, 3], [0]):
        store.batch(chosen)
    assert calls == [[1, 3], [2], [0]]
    part = store.select([5])
    assert calls[3:] == []
    part.batch([0])
    assert calls[3:] == [[5]]
    assert part.copy()._flat.guard is None
    assert torch.equal(part.copy().labels, torch.tensor([5]))
