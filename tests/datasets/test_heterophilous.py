"""Minesweeper as published, and a small graph in the same format."""

import io
import zipfile

import numpy as np
import pytest
import torch

from gnnlib.datasets import HETEROPHILOUS, FormatError, heterophilous

N, SPLITS = 6, 3


def arrays():
    part = (np.arange(N) + np.arange(SPLITS)[:, None]) % 3  # of each node in each split
    return {
        "node_features": np.arange(2 * N, dtype=np.float64).reshape(N, 2),
        "node_labels": np.array([0, 1, 2, 0, 1, 2], np.int32),
        # once, in both directions, twice, and a self-loop
        "edges": np.array([[0, 1], [1, 2], [2, 1], [3, 4], [3, 4], [5, 5]], np.int32),
        "train_masks": part == 0,
        "val_masks": part == 1,
        "test_masks": part == 2,
    }


def write(folder, name="roman_empire", **changed):
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.npz"
    np.savez_compressed(path, **{key: value for key, value in {**arrays(), **changed}.items() if value is not None})
    return path


@pytest.mark.parametrize("place", ["heterophilous", "."])
@pytest.mark.parametrize("name", ["roman-empire", "Roman-Empire"])
def test_small_graph(tmp_path, place, name):
    write(tmp_path / place)
    graph = heterophilous(name, tmp_path)
    edges = sorted(zip(*(ends.tolist() for ends in graph.edges())))
    assert edges == [(0, 1), (1, 0), (1, 2), (2, 1), (3, 4), (4, 3), (5, 5)]
    assert torch.equal(graph.ndata["feat"], torch.arange(2.0 * N).view(N, 2))
    assert torch.equal(graph.ndata["label"], torch.tensor([0, 1, 2, 0, 1, 2]))
    for split in range(SPLITS):
        parts = torch.stack([graph.ndata[f"{part}_mask"][:, split] for part in ("train", "val", "test")])
        assert parts.int().argmax(0).tolist() == [(node + split) % 3 for node in range(N)]


def overlap():
    masks = arrays()["train_masks"]
    masks[1, 0] = masks[1, 1] = True
    return masks


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"edges": None}, r"expected the arrays .*, got none of the name 'edges"),
        ({"node_features": np.zeros(N)}, r"expected node_features of shape \(N, F\), got float64 \(6,\)"),
        ({"node_features": np.full((N, 2), np.nan)}, "expected finite node_features"),
        ({"node_features": np.zeros((0, 2))}, r"expected node_labels of shape \(N,\), got int32 \(6,\)"),
        ({"node_labels": np.zeros((N, 2), int)}, r"expected node_labels of shape \(N,\), got int64 \(6, 2\)"),
        ({"node_labels": np.zeros(N)}, r"expected node_labels of shape \(N,\), got float64"),
        ({"node_labels": np.full(N, -1)}, "expected classes from 0, got -1"),
        ({"edges": np.zeros((2, 5), int)}, r"expected edges of shape \(E, 2\), got int64 \(2, 5\)"),
        ({"edges": np.array([[0, N]])}, "expected edges between nodes 0 to 5, got 0 to 6"),
        ({"edges": np.array([[-1, 0]])}, "expected edges between nodes 0 to 5, got -1 to 0"),
        ({"val_masks": np.zeros((2, N), bool)}, r"expected val_masks of shape \(splits, N\), got bool \(2, 6\)"),
        ({"val_masks": np.zeros((SPLITS, N), int)}, r"expected val_masks of shape \(splits, N\), got int64"),
        ({"val_masks": np.zeros((SPLITS, N), bool)}, "expected nodes in val_masks, got none in split 0"),
        ({"train_masks": overlap()}, "expected a node in one part of a split, got node [01] of split 1 in several"),
        ({"node_labels": np.array([object()] * N)}, r"expected arrays of numbers in the format \.npz .*allow_pickle"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else None,
)
def test_inconsistent_files_are_refused(tmp_path, changed, message):
    write(tmp_path, **changed)
    with pytest.raises(FormatError, match=rf"roman_empire\.npz: {message}"):
        heterophilous("roman-empire", tmp_path)


def test_damaged_files_are_refused(tmp_path):
    """A file cut off at any place, and one that is no zip."""
    path = write(tmp_path)
    content = path.read_bytes()
    for end in range(0, len(content), 97):
        path.write_bytes(content[:end])
        with pytest.raises(FormatError, match=r"roman_empire\.npz: expected arrays of numbers"):
            heterophilous("roman-empire", tmp_path)


def test_an_object_array_runs_nothing(tmp_path):
    """numpy stores objects as a pickle, which could run anything."""
    path = write(tmp_path)
    buffer = io.BytesIO()
    np.save(buffer, np.array([print], object), allow_pickle=True)
    with zipfile.ZipFile(path) as file:
        members = {name: file.read(name) for name in file.namelist()}
    with zipfile.ZipFile(path, "w") as file:
        for name, content in {**members, "edges.npy": buffer.getvalue()}.items():
            file.writestr(name, content)
    with pytest.raises(FormatError, match="Object arrays cannot be loaded"):
        heterophilous("roman-empire", tmp_path)


def test_names():
    assert len(HETEROPHILOUS) == 7
    with pytest.raises(ValueError, match=r"heterophilous: expected one of roman-empire, .*, got 'cora'"):
        heterophilous("cora")


def test_minesweeper_as_published(data_dir):
    """The counts of Platonov et al. 2023, table 1, and the meaning of the features: the first column marks the cells
    whose number is hidden, the others are one-hot numbers of mines around, 5 for more."""
    if not (data_dir / "heterophilous" / "minesweeper.npz").is_file():
        pytest.skip(f"no real data: {data_dir}/heterophilous has no minesweeper.npz")
    graph = heterophilous("minesweeper", data_dir)
    assert (graph.num_nodes(), graph.num_edges()) == (10000, 2 * 39402)
    assert graph.ndata["label"].bincount().tolist() == [8000, 2000]
    sizes = {part: graph.ndata[f"{part}_mask"].sum(0).unique().tolist() for part in ("train", "val", "test")}
    assert sizes == {"train": [5000], "val": [2500], "test": [2500]}
    src, dst = (ends.long() for ends in graph.edges())
    mines = torch.zeros(10000, dtype=torch.int64).index_add(0, dst, graph.ndata["label"][src])
    feat = graph.ndata["feat"]
    visible = feat[:, 0] == 0
    assert int(visible.sum()) == 5000
    assert torch.equal(feat[visible, 1:].argmax(1), mines[visible].clamp(max=5))
