"""OGB's tasks: small data sets in its raw layout, read by its own loaders, field by field."""

import builtins
import gzip
import hashlib
import importlib
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from gnnlib._platform.dgl import HAS_DGL
from gnnlib.datasets import FormatError, ogb_graphs, ogb_links, ogb_names, ogb_nodes
from gnnlib.datasets.ogb_files import check, find_files, master
from tests.ogb_raw import TASKS, needs_ogb, write_graphs, write_links, write_nodes, write_tables

pytestmark = needs_ogb
SIZES = [3 + i % 4 for i in range(24)]


@pytest.fixture(autouse=True)
def _alone(monkeypatch):
    """No questions, and no network."""

    def refuse(*args, **options):
        raise OSError(f"asked {args}")

    monkeypatch.setattr(builtins, "input", refuse)
    monkeypatch.setattr("gnnlib.datasets.files.urllib.request.urlopen", refuse)


def snapshot(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*")}


LIBRARIES = ["", pytest.param("Dgl", marks=pytest.mark.skipif(not HAS_DGL, reason="needs DGL: OGB's loader for it"))]


def official(library, kind, name, root):
    """OGB's own dataset object where it lies, reading and writing as it likes."""
    (root / name.replace("-", "_") / f"RELEASE_v{TASKS[name]['version']}.txt").touch()
    (root / name.replace("-", "_") / "processed").mkdir(exist_ok=True)
    package = importlib.import_module(f"ogb.{kind}proppred")
    dataset = getattr(package, f"{library}{kind.title()}PropPredDataset")(name=name, root=str(root))
    return dataset, package.Evaluator(name)


def arrays(graph):
    """Edges and features by end, type and name, of a graph or of what OGB has without a library."""
    if isinstance(graph, dict) and "edge_index_dict" in graph:
        columns = {("edge", kind, "index"): pairs for kind, pairs in graph.pop("edge_index_dict").items()}
        del graph["num_nodes_dict"]
        for key, values in graph.items():
            end, name = key.split("_")[:2]
            columns |= {(end, kind, name): rows for kind, rows in (values or {}).items()}
        return columns
    if isinstance(graph, dict):
        names = [key for key, value in graph.items() if value is not None and key != "num_nodes"]
        return {(*key.split("_"),): graph[key] for key in names}
    types = graph.canonical_etypes
    if len(types) == 1:
        columns = {("node", name): values for name, values in graph.ndata.items()}
        columns |= {("edge", name): values for name, values in graph.edata.items()}
        return columns | {("edge", "index"): torch.stack(graph.edges())}
    columns = {("edge", kind, "index"): torch.stack(graph.edges(etype=kind)) for kind in types}
    columns |= {("edge", kind, name): values for kind in types for name, values in graph.edges[kind].data.items()}
    return columns | {("node", k, name): values for k in graph.ntypes for name, values in graph.nodes[k].data.items()}


def same_graph(ours, theirs):
    mine, other = arrays(ours), arrays(theirs)
    assert mine.keys() == other.keys()
    for name in mine:
        assert mine[name].dtype == torch.as_tensor(other[name]).dtype
        assert torch.equal(mine[name], torch.as_tensor(other[name])), name


def same_labels(ours, theirs):
    expected = torch.as_tensor(theirs)
    assert ours.dtype == (torch.float32 if expected.isnan().any() or ours.dtype.is_floating_point else torch.int64)
    torch.testing.assert_close(ours, expected.to(ours.dtype), equal_nan=True, rtol=0, atol=0)


def ids_of(split):
    return {part: torch.as_tensor(ids).tolist() for part, ids in split.items()}


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("name", ["ogbg-molhiv", "ogbg-moltox21", "ogbg-molesol", "ogbg-ppa"])
@pytest.mark.filterwarnings("ignore:The given NumPy array is not writable")
def test_graphs_equal_ogbs(tmp_path, name, library):
    write_graphs(tmp_path / "data", name)
    before = snapshot(tmp_path / "data")
    for _ in range(2):  # converted, then from the cache
        dataset, split, metric = ogb_graphs(name, tmp_path / "data")
    assert snapshot(tmp_path / "data") == before, "the data directory is only read"
    theirs, evaluator = official(library, "graph", name, tmp_path / "data")
    for field in ("name", "num_tasks", "task_type", "eval_metric", "binary"):
        assert getattr(dataset, field) == getattr(theirs, field)
    assert dataset.num_classes == int(theirs.num_classes)
    assert len(dataset) == len(theirs) == 24
    for (graph, label), (other, expected) in zip(dataset, theirs, strict=True):
        same_graph(graph, other)
        same_labels(label, expected)
    assert ids_of(split) == ids_of(theirs.get_idx_split())
    outputs = torch.randn(24, metric.out_feats)
    y_pred = outputs.argmax(1, keepdim=True) if name == "ogbg-ppa" else outputs
    expected = evaluator.eval({"y_true": torch.as_tensor(theirs.labels).to(dataset.labels.dtype), "y_pred": y_pred})
    assert expected == {metric.name: metric(outputs, dataset.labels)}
    assert metric.higher_is_better == (name != "ogbg-molesol")


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("name", [name for name in ogb_names("ogbn") if name != "ogbn-mag"])
@pytest.mark.filterwarnings("ignore:The given NumPy array is not writable")
def test_nodes_equal_ogbs(tmp_path, name, library):
    write_nodes(tmp_path / "data", name)
    before = snapshot(tmp_path / "data")
    for _ in range(2):
        dataset, split, metric = ogb_nodes(name, tmp_path / "data")
    assert snapshot(tmp_path / "data") == before, "the data directory is only read"
    theirs, evaluator = official(library, "node", name, tmp_path / "data")
    (graph, labels), (other, expected) = dataset[0], theirs[0]
    same_graph(graph, other)
    same_labels(labels, expected)
    for field in ("num_tasks", "task_type", "eval_metric", "is_hetero"):
        assert getattr(dataset, field) == getattr(theirs, field)
    assert dataset.num_classes == int(theirs.num_classes)
    assert ids_of(split) == ids_of(theirs.get_idx_split())
    rows, outputs = split["test"], torch.randn(len(split["test"]), metric.out_feats)
    y_pred = outputs if name == "ogbn-proteins" else outputs.argmax(1, keepdim=True)
    assert metric(outputs, labels[rows]) == evaluator.eval({"y_true": labels[rows], "y_pred": y_pred})[metric.name]
    assert (metric.out_feats, labels.shape) == (
        {"ogbn-proteins": 112, "ogbn-products": 47, "ogbn-arxiv": 40, "ogbn-papers100M": 172}[name],
        (60, 112 if name == "ogbn-proteins" else 1),
    )


@pytest.mark.parametrize("library", LIBRARIES)
def test_node_types_equal_ogbs(tmp_path, library):
    write_nodes(tmp_path / "data", "ogbn-mag")
    before = snapshot(tmp_path / "data")
    for _ in range(2):
        dataset, split, metric = ogb_nodes("ogbn-mag", tmp_path / "data")
    assert snapshot(tmp_path / "data") == before, "the data directory is only read"
    theirs, evaluator = official(library, "node", "ogbn-mag", tmp_path / "data")
    (graph, labels), (other, expected) = dataset[0], theirs[0]
    assert len(graph.canonical_etypes) == len(graph.ntypes) == 4
    if library:
        assert (graph.ntypes, graph.canonical_etypes) == (other.ntypes, other.canonical_etypes)
    same_graph(graph, other)
    assert set(graph.nodes["paper"].data) == {"feat", "year"}
    assert labels.keys() == expected.keys() == {"paper"}
    same_labels(labels["paper"], expected["paper"])
    assert ids_of(split) == ids_of({part: ids["paper"] for part, ids in theirs.get_idx_split().items()})
    outputs, truth = torch.randn(len(split["test"]), 349), labels["paper"][split["test"]]
    score = evaluator.eval({"y_true": truth, "y_pred": outputs.argmax(1, keepdim=True)})
    assert score == {"acc": metric(outputs, truth)}


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("name", ogb_names("ogbl"))
@pytest.mark.filterwarnings("ignore:The given NumPy array is not writable")
def test_links_equal_ogbs(tmp_path, name, library):
    write_links(tmp_path / "data", name, arrays=False, one_file=name == "ogbl-vessel")
    before = snapshot(tmp_path / "data")
    for _ in range(2):
        dataset, split, metric = ogb_links(name, tmp_path / "data")
    assert snapshot(tmp_path / "data") == before, "the data directory is only read"
    theirs, evaluator = official(library, "link", name, tmp_path / "data")
    same_graph(dataset[0], theirs[0])
    for field in ("name", "task_type", "eval_metric", "is_hetero"):
        assert getattr(dataset, field) == getattr(theirs, field)
    same_split(split, theirs.get_edge_split())
    positive = torch.randn(30)
    negative = torch.randn(30, 40) if metric.name == "mrr" else torch.randn(150)
    expected = evaluator.eval({"y_pred_pos": positive, "y_pred_neg": negative})
    value = expected["mrr_list"].mean().item() if metric.name == "mrr" else expected[metric.name]
    assert metric(positive, negative) == pytest.approx(value, rel=1e-6)


def same_split(ours, theirs):
    assert ours.keys() == theirs.keys()
    for part, tables in theirs.items():
        assert ours[part].keys() == tables.keys()
        for key, table in tables.items():
            same = ours[part][key] == table if isinstance(table, list) else torch.equal(ours[part][key], table)
            assert same, (part, key)


@pytest.mark.parametrize("name", ["ogbl-collab", "ogbl-biokg"])
def test_splits_of_arrays_are_those_of_tensors(tmp_path, name):
    """As OGB publishes them, in PyTorch's first format; its own loader unpickles them."""
    splits = []
    for arrays in (True, False):
        write_links(tmp_path / str(arrays), name, arrays=arrays)
        splits.append(ogb_links(name, tmp_path / str(arrays))[1])
    same_split(*splits)


def edges(*pairs):
    return np.array(pairs, dtype=np.int64)


DDI = "ogbl-ddi"


@pytest.mark.parametrize(
    ("name", "changed", "message"),
    [
        (DDI, {"split": {"test": {"edge": edges((1, 99))}}}, r"test: edge: expected nodes from 0 to 59, got 1 to 99"),
        (DDI, {"split": {"test": {"edge": edges((1, -1))}}}, r"test: edge: expected nodes from 0 to 59, got -1 to 1"),
        (DDI, {"split": {"test": {"edge": edges(1, 2)}}}, r"edge: expected numbers of int64 in 2 axes, got \(2,\)"),
        (DDI, {"split": {"valid": {"edge_neg": edges((1, 99))}}}, r"valid: edge_neg: expected nodes from 0 to 59"),
        (DDI, {"split": {"test": {"edge": np.ones((2, 2))}}}, r"in 2 axes, got \(2, 2\) of torch\.float64"),
        (DDI, {"split": {"test": {"edge": np.array([Path()])}}}, r"test\.pt: expected tensors, arrays, dictionaries"),
        (DDI, {"raw/num-edge-list": [3]}, r"edge: expected 3 rows, got 132"),
        ("ogbl-collab", {"split": {"test": {"year": np.ones(3)}}}, r"test: expected tables of one length, .*'year': 3"),
        ("ogbl-wikikg2", {"split": {"test": {"head_neg": edges((1, 60))}}}, r"test: expected tables of one length"),
        ("ogbl-biokg", {"raw/num-node-dict": [["drug", "gene"], [30, 25]]}, r"expected a number of each disease"),
        (
            "ogbl-biokg",
            {"raw/triplet-type-list": [("drug", "../x", "gene")]},
            r"expected three names in a line, got .dr",
        ),
    ],
)
def test_inconsistent_link_files(tmp_path, name, changed, message):
    write_links(tmp_path, name, **changed)
    with pytest.raises(FormatError, match=message):
        ogb_links(name, tmp_path)


def test_a_split_that_overlaps(tmp_path):
    write_links(tmp_path, DDI)
    train = ogb_links(DDI, tmp_path)[1]["train"]["edge"].numpy()
    write_links(tmp_path, DDI, split={"valid": {"edge": train[:2, ::-1].copy()}})
    with pytest.raises(FormatError, match="expected parts of the split without a common edge, got 2 of valid in train"):
        ogb_links(DDI, tmp_path)


def test_an_edge_of_another_year_or_direction_is_another_edge(tmp_path):
    write_links(tmp_path, "ogbl-collab")
    tables = ogb_links("ogbl-collab", tmp_path)[1]
    valid = {"edge": tables["train"]["edge"][: len(tables["valid"]["edge"])].numpy()}
    write_links(tmp_path, "ogbl-collab", split={"valid": valid})
    assert torch.equal(ogb_links("ogbl-collab", tmp_path)[1]["valid"]["edge"], torch.from_numpy(valid["edge"]))
    write_links(tmp_path, "ogbl-citation2")
    tables = ogb_links("ogbl-citation2", tmp_path)[1]
    number = len(tables["valid"]["source_node"])
    ends = [tables["train"][key][:number].numpy() for key in ("source_node", "target_node")]
    write_links(tmp_path, "ogbl-citation2", split={"valid": {"source_node": ends[1], "target_node": ends[0]}})
    ogb_links("ogbl-citation2", tmp_path)
    write_links(tmp_path, "ogbl-citation2", split={"valid": {"source_node": ends[0], "target_node": ends[1]}})
    with pytest.raises(FormatError, match=f"without a common edge, got {number} of valid in train"):
        ogb_links("ogbl-citation2", tmp_path)


def test_edges_of_molecules_go_both_ways(tmp_path):
    write_graphs(tmp_path)
    dataset, _, _ = ogb_graphs("ogbg-molhiv", tmp_path)
    graph, label = dataset[1]
    assert [ends.tolist() for ends in graph.edges()] == [[0, 1, 1, 2, 2, 3, 3, 0], [1, 0, 2, 1, 3, 2, 0, 3]]
    assert graph.edata["feat"].tolist() == [[i % 2, 0, 1] for i in range(4) for _ in range(2)]
    assert (graph.ndata["feat"].dtype, graph.edata["feat"].dtype, label.dtype) == (torch.int64,) * 3


def test_the_tasks_are_those_of_ogbs_table():
    top = Path(importlib.util.find_spec("ogb").origin).parent
    graphs = pd.read_csv(top / "graphproppred" / "master.csv", index_col=0)
    nodes = pd.read_csv(top / "nodeproppred" / "master.csv", index_col=0)
    assert ogb_names("ogbg") == [name for name in graphs if name != "ogbg-code2"]
    assert ogb_names("ogbn") == list(nodes)
    links = pd.read_csv(top / "linkproppred" / "master.csv", index_col=0)
    assert ogb_names("ogbl") == list(links)
    assert len(links.columns) == 7
    expected = pd.read_csv(top / "graphproppred" / "master.csv", index_col=0, keep_default_na=False)
    assert master("graphproppred") == {name: dict(expected[name]) for name in expected}


@pytest.mark.parametrize(
    ("load", "name", "message"),
    [
        (ogb_nodes, "ogbg-molhiv", "expected one of ogbn-proteins, .*, got 'ogbg-molhiv': a task on graphs"),
        (ogb_graphs, "ogbn-arxiv", "expected one of ogbg-molbace, .*, got 'ogbn-arxiv': a task on nodes"),
        (ogb_nodes, "ogbl-ddi", "expected one of ogbn-proteins, .*, got 'ogbl-ddi': a task on links"),
        (ogb_links, "ogbn-arxiv", "expected one of ogbl-ppa, .*, got 'ogbn-arxiv': a task on nodes"),
        (ogb_graphs, "ogbg-code2", "got 'ogbg-code2': its labels are sequences of words"),
        (ogb_graphs, "ogbg-hiv", "got 'ogbg-hiv'$"),
    ],
)
def test_a_task_of_another_kind(tmp_path, load, name, message):
    with pytest.raises(ValueError, match=message):
        load(name, tmp_path)


def test_without_ogb(tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert ogb_names("ogbg") == ogb_names("ogbn") == []
    with pytest.raises(ImportError, match="ogbg-molhiv needs ogb: pip install ogb"):
        ogb_graphs("ogbg-molhiv", tmp_path)


def test_a_metric_of_a_wrong_shape(tmp_path):
    write_graphs(tmp_path)
    dataset, _, metric = ogb_graphs("ogbg-molhiv", tmp_path)
    for outputs, labels in ((24,), (24, 1)), ((24, 2), (24, 1)), ((23, 1), (24, 1)), ((24, 1), (24,)):
        message = f"ogbg-molhiv: expected outputs (n, 1) and labels (n, 1), got {outputs} and {labels}"
        with pytest.raises(ValueError, match=re.escape(message)):
            metric(torch.zeros(outputs), torch.zeros(labels))
    with pytest.raises(RuntimeError, match="No positively labeled data"):
        metric(torch.zeros(24, 1), torch.zeros_like(dataset.labels))


# ---------------------------------------------------------------- files


def zipped(folder, path, top):
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(folder.rglob("*.*z*")):
            archive.write(file, f"{top}/{file.relative_to(folder)}")
    return path


@pytest.mark.parametrize("place", ["ogb/ogbg_molhiv", "ogbg_molhiv"])
def test_locations(tmp_path, place):
    write_graphs(tmp_path / "raw").rename(tmp_path / "whole")
    (tmp_path / "data" / place).parent.mkdir(parents=True)
    (tmp_path / "whole").rename(tmp_path / "data" / place)
    assert len(ogb_graphs("ogbg-molhiv", tmp_path / "data")[0]) == 24


def test_a_read_only_folder(tmp_path):
    write_nodes(tmp_path / "data", "ogbn-proteins")
    paths = [tmp_path / "data", *(tmp_path / "data").rglob("*")]
    for path in paths:
        path.chmod(0o555 if path.is_dir() else 0o444)
    try:
        assert "species" in ogb_nodes("ogbn-proteins", tmp_path / "data")[0][0][0].ndata
    finally:
        for path in paths:
            path.chmod(0o755)


def test_the_published_zip(tmp_path):
    path = zipped(write_graphs(tmp_path / "raw"), tmp_path / "hiv.zip", "hiv")
    for _ in range(2):
        assert len(ogb_graphs("ogbg-molhiv", tmp_path)[0]) == 24
    content = path.read_bytes()
    path.write_bytes(content[:-30])
    with pytest.raises(FormatError, match=r"hiv\.zip: expected a zip with hiv/raw and hiv/split"):
        ogb_graphs("ogbg-molhiv", tmp_path)
    zipped(write_nodes(tmp_path / "raw", "ogbn-proteins"), tmp_path / "proteins.zip", "proteins")
    assert "species" in ogb_nodes("ogbn-proteins", tmp_path)[0][0][0].ndata


def test_the_cache_of_a_zip_is_named_by_its_hash(tmp_path, cache):
    """Not by names, sizes and checksums in its table, which a forger chooses."""
    path = zipped(write_graphs(tmp_path / "raw"), tmp_path / "hiv.zip", "hiv")
    digests = set()
    for comment in (b"", b"the same table in another file"):
        with zipfile.ZipFile(path, "a") as archive:
            archive.comment = comment
        digests.add(hashlib.sha256(path.read_bytes()).hexdigest()[:32])
        assert len(ogb_graphs("ogbg-molhiv", tmp_path)[0]) == 24
        assert {folder.parent.name for folder in cache.glob("ogb/*/hiv")} == digests
    assert len(digests) == 2


def test_what_was_unpacked_is_verified(tmp_path, cache):
    zipped(write_graphs(tmp_path / "raw"), tmp_path / "hiv.zip", "hiv")
    expected = ogb_graphs("ogbg-molhiv", tmp_path)[0].labels
    (unpacked,) = cache.glob("ogb/*/hiv/raw/graph-label.csv.gz")
    unpacked.write_bytes(gzip.compress(b"1\n" * 24))
    with pytest.warns(RuntimeWarning, match=f"damaged cache entry {unpacked}"):
        assert torch.equal(ogb_graphs("ogbg-molhiv", tmp_path)[0].labels, expected)


@pytest.mark.parametrize("harm", ["truncated", "changed"])
def test_a_damaged_cache_is_named_and_made_again(tmp_path, cache, harm):
    write_graphs(tmp_path)
    ogb_graphs("ogbg-molhiv", tmp_path)
    (processed,) = cache.rglob("arrays-1.safetensors")
    content = processed.read_bytes()
    processed.write_bytes(content[:-9] if harm == "truncated" else content[:500] + b"\xff" * 9 + content[509:])
    with pytest.warns(RuntimeWarning, match=f"damaged cache entry {processed}"):
        assert len(ogb_graphs("ogbg-molhiv", tmp_path)[0]) == 24
    assert not list(cache.rglob("tmp*")), "no scratch folder is left"


def test_other_content_is_another_cache_entry(tmp_path):
    labels = np.arange(24) % 2
    write_graphs(tmp_path)
    assert ogb_graphs("ogbg-molhiv", tmp_path)[0].labels[0] == 0
    write_graphs(tmp_path, **{"raw/graph-label": 1 - labels})
    assert ogb_graphs("ogbg-molhiv", tmp_path)[0].labels[0] == 1


def test_a_pickle_beside_the_files_is_left_alone(tmp_path):
    """OGB would load any split_dict.pt: code of whoever wrote it."""
    folder = write_graphs(tmp_path)
    torch.save({"train": "whatever"}, folder / "split" / "scaffold" / "split_dict.pt")
    assert ogb_graphs("ogbg-molhiv", tmp_path)[1]["train"].tolist() == list(range(12))


def test_absent_files(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no folder .*/ogb/ogbg_molhiv or .*hiv\.zip not found.*--data DIR"):
        ogb_graphs("ogbg-molhiv", tmp_path)
    with pytest.raises(FileNotFoundError, match="no/such, which is not a directory"):
        ogb_graphs("ogbg-molhiv", tmp_path / "no" / "such")
    folder = write_graphs(tmp_path)
    (folder / "raw/edge.csv.gz").unlink()
    with pytest.raises(FileNotFoundError, match=rf"{folder}: expected .*; missing raw/edge\.csv\.gz$"):
        ogb_graphs("ogbg-molhiv", tmp_path)


def test_another_release(tmp_path):
    folder = write_graphs(tmp_path)
    (folder / "RELEASE_v0.txt").touch()
    with pytest.raises(FormatError, match=rf"{folder}: expected RELEASE_v1\.txt, got RELEASE_v0\.txt"):
        ogb_graphs("ogbg-molhiv", tmp_path)


ONES, RINGS = np.ones((sum(SIZES), 9), int), np.zeros((sum(SIZES), 3), int)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"raw/num-node-list": SIZES[:23]}, r"num-edge-list: expected 23 rows, got 24"),
        ({"raw/node-feat": ONES[1:]}, r"node-feat: expected 108 rows, got 107"),
        ({"raw/num-edge-list": [2, *SIZES[1:]]}, r"edge: expected 107 rows, got 108"),
        ({"raw/num-edge-list": ["x", *SIZES[1:]]}, r"raw/num-edge-list\.csv\.gz: expected one number per line"),
        ({"split/scaffold/test": [5, 24]}, r"split of graphs 0 to 23, none twice, got 20 ids from 0 to 24"),
        ({"split/scaffold/test": [5, 5]}, r"split of graphs 0 to 23, none twice, got 20 ids from 0 to 17"),
        ({"raw/graph-label": [2] * 24}, r"labels: expected 0 to 1, got 2 to 2"),
        ({"raw/graph-label": [[0, 1]] * 24}, r"labels: expected shape \(24, 1\), got \(24, 2\)"),
        ({"raw/graph-label": ["x"] * 24}, r"OGB's reader cannot read it"),
        ({"raw/node-feat": 119 * ONES}, r"node-feat: expected codes 0 to 118 in column 0, got 119 to 119"),
        ({"raw/node-feat": ONES[:, :8]}, r"node-feat: expected codes \(n, 9\), got \(108, 8\) torch.int64"),
        ({"raw/edge-feat": RINGS - 1}, r"edge-feat: expected codes 0 to 4 in column 0, got -1 to -1"),
        ({"raw/edge": [(0, 9)] * sum(SIZES)}, r"expected edges of nodes 0 to 2, got 0 to 9"),
    ],
)
def test_inconsistent_files(tmp_path, changed, message):
    folder = write_graphs(tmp_path, **changed)
    with pytest.raises(FormatError, match=message) as error:
        ogb_graphs("ogbg-molhiv", tmp_path)
    assert str(folder) in str(error.value)


@pytest.mark.parametrize(
    ("name", "changed", "message"),
    [
        ("ogbn-arxiv", {"raw/node-label": [40] * 60}, r"labels: expected 0 to 39, got 40 to 40"),
        (
            "ogbn-arxiv",
            {"raw/node-label": ["nan"] + [0] * 59},
            r"labels: expected one for each of 60 in .*, 1 have none",
        ),
        ("ogbn-arxiv", {"raw/node-label": [""] + [0] * 59}, r"labels: expected shape \(60, 1\), got \(59, 1\)"),
        ("ogbn-arxiv", {"raw/node-label": [0] * 59}, r"node-label: expected 60 rows, got 59"),
        ("ogbn-papers100M", {"raw/node-label": [[0]] * 59}, r"node-label: expected 60 rows, got 59"),
        ("ogbn-papers100M", {"raw/num-edge-list": [119]}, r"edge: expected 119 rows, got 120"),
        ("ogbn-papers100M", {"split/time/test": [61]}, r"split of nodes 0 to 59, none twice, got 37 ids .* to 61"),
        (
            "ogbn-mag",
            {"raw/node-feat/paper/node_year": [2000]},
            r"node-feat/paper/node_year: expected 60 rows, got 1$",
        ),
        (
            "ogbn-mag",
            {"raw/relations/paper___cites___paper/num-edge-list": [119]},
            r"relations/paper___cites___paper/edge: expected 119 rows, got 120",
        ),
        ("ogbn-mag", {"split/time/paper/test": [61]}, r"split of papers 0 to 59, none twice, got 49 ids .* to 61"),
        ("ogbn-mag", {"raw/num-node-dict": [["paper"], [60]]}, r"num-node-dict: expected a number of each author, fi"),
        ("ogbn-mag", {"raw/num-node-dict": [["paper"]]}, r"num-node-dict: expected a number of each author, fi"),
        ("ogbn-mag", {"raw/num-node-dict": [["paper"], ["many"]]}, r"raw/num-node-dict.csv.gz is truncated or dam"),
        ("ogbn-mag", {"raw/node-label/paper/node-label": [349] * 60}, r"labels: expected 0 to 348, got 349 to"),
    ],
)
def test_inconsistent_node_files(tmp_path, name, changed, message):
    folder = write_nodes(tmp_path, name, **changed)
    with pytest.raises(FormatError, match=message) as error:
        ogb_nodes(name, tmp_path)
    assert str(folder) in str(error.value)


@pytest.mark.parametrize(
    ("write", "load", "name", "file"),
    [
        (write_graphs, ogb_graphs, "ogbg-molhiv", "raw/node-feat.csv.gz"),
        (write_nodes, ogb_nodes, "ogbn-papers100M", "raw/data.npz"),
    ],
)
def test_a_truncated_file(tmp_path, write, load, name, file):
    path = write(tmp_path, name) / file
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(FormatError, match=rf"{name.replace('-', '_')}: {file} is truncated or damaged"):
        load(name, tmp_path)


@pytest.mark.process
def test_ogb_contacts_no_package_index(tmp_path):
    """A fresh interpreter reads the molecules, and no thread of it looks up a host."""
    write_graphs(tmp_path)
    code = (
        "import socket, threading\n"
        "calls = []\n"
        "socket.getaddrinfo = lambda *a, **k: calls.append(a) or 1 / 0\n"
        "from gnnlib.datasets import ogb_graphs\n"
        f"ogb_graphs('ogbg-molhiv', {str(tmp_path)!r})\n"
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
    if not (data_dir / "ogb" / "ogbg_molhiv").is_dir():
        pytest.skip(f"no real data: {data_dir}/ogb has no ogbg_molhiv")
    row = TASKS["ogbg-molhiv"]
    files = find_files("ogbg-molhiv", row, "graph", data_dir)
    check(files, row, "graph")
    rows = {name: len(gzip.decompress(path.read_bytes()).splitlines()) for name, path in files.paths.items()}
    assert rows["raw/graph-label.csv.gz"] == 41127
    assert rows["raw/node-feat.csv.gz"] == 1049163
    assert rows["raw/edge.csv.gz"] == 1129688
    assert [rows[f"split/scaffold/{part}.csv.gz"] for part in ("train", "valid", "test")] == [32901, 4113, 4113]
    assert gzip.decompress(files.paths["raw/graph-label.csv.gz"].read_bytes()).split().count(b"1") == 1443


def test_tables_are_written_row_by_row(tmp_path):
    write_tables(tmp_path, {"raw/edge": [(0, 1), (2, 3)]})
    assert gzip.decompress((tmp_path / "raw/edge.csv.gz").read_bytes()) == b"0,1\n2,3\n"
