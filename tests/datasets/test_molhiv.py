"""ogbg-molhiv: seven small molecules in OGB's raw layout, read by OGB's own loader."""

import builtins
import gzip
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from datasets import FormatError, molhiv

NODES, BONDS = [3, 1, 2, 4, 2, 5, 3], [2, 0, 1, 4, 1, 4, 3]
LABELS = [0, 1, 0, 0, 1, 1, 0]
SPLIT = {"train": [0, 1, 2], "valid": [3, 4], "test": [5, 6]}


@pytest.fixture(autouse=True)
def _needs_ogb(monkeypatch):
    pytest.importorskip("ogb", reason="ogb is not installed")

    def ask(*args):
        raise AssertionError(f"asked {args}")

    monkeypatch.setattr(builtins, "input", ask)


def tables():
    rng = np.random.default_rng(0)
    bonds = [(i % n, (i + 1) % n) for n, e in zip(NODES, BONDS) for i in range(e)]
    return {
        "raw/num-node-list": NODES,
        "raw/num-edge-list": BONDS,
        "raw/node-feat": rng.integers(0, 5, (sum(NODES), 9)),
        "raw/edge": bonds,
        "raw/edge-feat": rng.integers(0, 3, (sum(BONDS), 3)),
        "raw/graph-label": LABELS,
    } | {f"split/scaffold/{part}": ids for part, ids in SPLIT.items()}


def write(folder, **changed):
    """OGB's raw layout below folder."""
    for name, rows in {**tables(), **changed}.items():
        path = folder / f"{name}.csv.gz"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(gzip.compress("".join(f"{','.join(map(str, np.ravel(row)))}\n" for row in rows).encode()))
    return folder


def snapshot(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*")}


@pytest.mark.parametrize("place", ["ogb/ogbg_molhiv", "ogbg_molhiv"])
def test_small_molecules(tmp_path, place):
    data = tmp_path / "data"
    write(data / place)
    before = snapshot(data)
    for _ in range(2):  # converted, then from the cache
        dataset, split, evaluator = molhiv(data)
        assert len(dataset) == 7
        assert {part: ids.tolist() for part, ids in split.items()} == SPLIT
        assert dataset.labels.tolist() == [[label] for label in LABELS]
        assert [graph.num_nodes() for graph, _ in dataset] == NODES
        assert [graph.num_edges() for graph, _ in dataset] == [2 * n for n in BONDS]
        feat = torch.cat([graph.ndata["feat"] for graph, _ in dataset])
        assert feat.tolist() == tables()["raw/node-feat"].tolist()
        graph, label = dataset[3]
        assert [ends.tolist() for ends in graph.edges()] == [[0, 1, 1, 2, 2, 3, 3, 0], [1, 0, 2, 1, 3, 2, 0, 3]]
        assert graph.edata["feat"][::2].tolist() == tables()["raw/edge-feat"][3:7].tolist()
        assert torch.equal(graph.edata["feat"][::2], graph.edata["feat"][1::2])
        assert (graph.ndata["feat"].dtype, graph.edata["feat"].dtype, label.dtype) == (torch.int64,) * 3
        scores = torch.tensor(LABELS)[:, None].float()
        assert evaluator.eval({"y_true": dataset.labels, "y_pred": scores}) == {"rocauc": 1.0}
    assert snapshot(data) == before, "the data directory is only read"


def test_the_published_zip(tmp_path):
    raw = write(tmp_path / "raw-layout")
    with zipfile.ZipFile(tmp_path / "hiv.zip", "w") as archive:
        for path in raw.rglob("*.gz"):
            archive.write(path, f"hiv/{path.relative_to(raw)}")
    assert len(molhiv(tmp_path)[0]) == 7
    whole = (tmp_path / "hiv.zip").read_bytes()
    (tmp_path / "hiv.zip").write_bytes(whole[:-30])
    with pytest.raises(FormatError, match=r"hiv\.zip: expected a zip with hiv/raw and hiv/split"):
        molhiv(tmp_path)


@pytest.mark.parametrize("harm", ["truncated", "changed"])
def test_a_damaged_cache_is_named_and_made_again(tmp_path, cache, harm):
    write(tmp_path / "ogbg_molhiv")
    molhiv(tmp_path)
    (processed,) = cache.rglob("dgl_data_processed")
    content = processed.read_bytes()
    processed.write_bytes(content[:-9] if harm == "truncated" else content[:500] + b"\xff" * 9 + content[509:])
    with pytest.warns(RuntimeWarning, match=f"damaged cache entry {processed}"):
        assert len(molhiv(tmp_path)[0]) == 7
    assert not list(cache.rglob("tmp*")), "no scratch folder is left"


def test_other_content_is_another_cache_entry(tmp_path):
    write(tmp_path / "ogbg_molhiv")
    assert molhiv(tmp_path)[0].labels[0] == 0
    write(tmp_path / "ogbg_molhiv", **{"raw/graph-label": [1, *LABELS[1:]]})
    assert molhiv(tmp_path)[0].labels[0] == 1


def test_absent_files(tmp_path, monkeypatch):
    monkeypatch.setattr(sys.modules["datasets.molhiv"], "URL", (tmp_path / "nowhere.zip").as_uri())
    with pytest.raises(FileNotFoundError, match=r"hiv\.zip not found.*no .* in the data directory.*--data DIR"):
        molhiv(tmp_path)
    folder = write(tmp_path / "ogbg_molhiv")
    (folder / "raw/edge.csv.gz").unlink()
    with pytest.raises(FileNotFoundError, match=rf"{folder}: expected .*; missing raw/edge\.csv\.gz"):
        molhiv(tmp_path)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"raw/num-node-list": NODES[:6]}, r"raw/graph-label\.csv\.gz: expected 6 rows, received 7"),
        ({"raw/node-feat": [[0] * 9] * 19}, r"raw/node-feat\.csv\.gz: expected 20 rows, received 19"),
        ({"raw/num-edge-list": [3, *BONDS[1:]]}, r"raw/edge\.csv\.gz: expected 16 rows, received 15"),
        ({"raw/num-edge-list": ["x", *BONDS[1:]]}, r"raw/num-edge-list\.csv\.gz: expected one number a line"),
        ({"split/scaffold/test": [5, 5]}, r"expected a split of graphs 0 to 6, each once, received 7 ids from 0 to 5"),
    ],
)
def test_files_that_do_not_belong_together(tmp_path, changed, message):
    folder = write(tmp_path / "ogbg_molhiv", **changed)
    with pytest.raises(FormatError, match=message) as error:
        molhiv(tmp_path)
    assert str(folder) in str(error.value)


def test_a_truncated_file(tmp_path):
    path = write(tmp_path / "ogbg_molhiv") / "raw/node-feat.csv.gz"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(FormatError, match=r"ogbg_molhiv: raw/node-feat\.csv\.gz is truncated or damaged"):
        molhiv(tmp_path)


def test_ogb_asks_no_package_index(tmp_path):
    """A fresh interpreter reads the molecules, and no thread of it looks up a host."""
    write(tmp_path / "ogbg_molhiv")
    code = (
        "import socket, threading\n"
        "calls = []\n"
        "socket.getaddrinfo = lambda *a, **k: calls.append(a) or 1 / 0\n"
        "from datasets import molhiv\n"
        f"molhiv({str(tmp_path)!r})\n"
        "for thread in threading.enumerate():\n"
        "    if thread is not threading.main_thread() and not thread.daemon:\n"
        "        thread.join(60)\n"
        "assert not calls, calls\n"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


def test_published_counts_of_the_raw_files(data_dir):
    """The check before the conversion, which itself takes too long here."""
    module = sys.modules["datasets.molhiv"]
    if not (data_dir / "ogb" / "ogbg_molhiv").is_dir():
        pytest.skip(f"no real data: {data_dir}/ogb has no ogbg_molhiv")
    origin, files = module._source(data_dir)
    module._check(origin, files)
    rows = {name: len(gzip.decompress(content).splitlines()) for name, content in files.items()}
    assert rows["raw/graph-label.csv.gz"] == 41127
    assert rows["raw/node-feat.csv.gz"] == 1049163
    assert rows["raw/edge.csv.gz"] == 1129688
    assert [rows[f"split/scaffold/{part}.csv.gz"] for part in ("train", "valid", "test")] == [32901, 4113, 4113]
    assert gzip.decompress(files["raw/graph-label.csv.gz"]).split().count(b"1") == 1443
