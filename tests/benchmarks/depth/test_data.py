"""The data of depth studies: what a label depends on, splits, metrics, and studies of them."""

import itertools
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.sparse import csgraph, csr_matrix

from gnnlib import GCNConv, GINConv, Stack
from gnnlib.analysis.smoothing import rayleigh_quotient
from gnnlib.benchmarks.depth import TrainingSettings, depth_study
from gnnlib.benchmarks.depth.cells import Cell, make_cell_plan, run_cell
from gnnlib.benchmarks.depth.command import preset
from gnnlib.benchmarks.depth.data import NodeData, check_data
from gnnlib.benchmarks.depth.generated import PROPERTIES, SIZES, graph_properties, ring_transfer, tree_transfer
from gnnlib.benchmarks.depth.loading import DATA, load
from gnnlib.benchmarks.depth.study import Study
from gnnlib.benchmarks.errors import UsageError
from gnnlib.benchmarks.metrics import r2
from gnnlib.graph import unbatch

FEW = {"train": 16, "val": 8, "test": 8}  # twice each kind of graph in training
TRANSFERS = [ring_transfer(4), tree_transfer(3)]
HOPS = [4, 3]


@pytest.mark.parametrize(("data", "hops"), list(zip(TRANSFERS, HOPS)), ids=["ring", "tree"])
@pytest.mark.parametrize("conv", [GCNConv, GINConv])
def test_fewer_layers_than_hops_see_nothing(data, hops, conv):
    """The outputs at all targets are equal, whatever the weights, unless there are as many layers as hops."""
    targets = torch.stack(list(data.masks.values())).any(0)
    for layers in (hops - 1, hops):
        torch.manual_seed(0)
        model = Stack.build(conv, data.feat.shape[1], 16, 5, layers, activation="elu").eval()
        outputs = model(data.graph, data.feat)[targets].detach()
        spread = (outputs - outputs[0]).abs().max() / outputs.abs().max()
        assert (spread < 1e-6) == (layers < hops)


def test_a_ring_has_its_class_at_the_other_side():
    data, size = ring_transfer(4), 8
    rings = data.feat.view(-1, size, data.feat.shape[1])
    assert data.graph.batch_num_nodes().tolist() == [size] * sum(SIZES.values())
    assert torch.equal(rings[:, 0, :5].argmax(1), data.label.view(-1, size)[:, 4])
    assert rings[:, :, :5].sum((1, 2)).eq(1).all(), "the source alone has a class"
    assert rings[:, 4, 6].eq(1).all()
    assert rings[:, :, 6].sum(1).eq(1).all()


def test_the_marked_leaf_of_a_tree_has_its_class():
    data, size = tree_transfer(3), 15
    trees = data.feat.view(-1, size, data.feat.shape[1])
    marked = trees[:, :, 5]
    assert marked.sum(1).eq(1).all()
    assert marked[:, 7:].sum(1).eq(1).all(), "a leaf"
    classes = trees[:, :, :5].argmax(2)
    assert torch.equal(classes[marked.bool()], data.label.view(-1, size)[:, 0])
    assert trees[:, 7:, :5].sum(2).eq(1).all(), "the other leaves have classes too"
    assert len(classes[:, 7:].flatten().unique()) == 5
    assert not trees[:, :7, :6].any()


@pytest.mark.parametrize("data", TRANSFERS, ids=["ring", "tree"])
def test_only_targets_are_labelled(data):
    masks = torch.stack(list(data.masks.values()))
    assert {part: int(mask.sum()) for part, mask in data.masks.items()} == SIZES
    assert masks.sum(0).max() == 1
    assert torch.equal(masks.any(0), data.feat[:, 6] == 1)
    for mask in masks:
        assert data.label[mask].bincount(minlength=5).min() > 0


@pytest.mark.parametrize("name", PROPERTIES)
def test_properties_are_those_of_scipy(name):
    """Relative to the largest, as the labels are."""
    data = graph_properties(name, FEW)
    graphs = unbatch(data.graph)
    feats = data.feat.split([graph.num_nodes() for graph in graphs])
    expected = []
    for graph, feat in zip(graphs, feats, strict=True):
        ends = tuple(end.numpy() for end in graph.edges())
        matrix = csr_matrix((np.ones(len(ends[0])), ends), shape=(len(feat), len(feat)))
        distance = csgraph.shortest_path(matrix, unweighted=True)
        assert np.isfinite(distance).all(), "connected"
        assert 20 <= len(distance) <= 35
        source = int(feat[:, 1].argmax())
        assert feat[:, 1].sum() == 1
        values = {"distance": distance[source], "eccentricity": distance.max(1), "diameter": distance.max()}
        expected.append(np.atleast_1d(values[name]))
    expected = np.concatenate(expected)
    np.testing.assert_allclose(data.label[:, 0], expected / expected.max(), rtol=1e-6)
    assert (data.rows == sum(FEW.values())) == data.per_graph
    assert {part: len(np.unique(mask)) for part, mask in data.masks.items()} == dict.fromkeys(FEW, 2)


@pytest.mark.parametrize(
    "make", [lambda: ring_transfer(3), lambda: tree_transfer(2), lambda: graph_properties("diameter", FEW)]
)
def test_the_same_numbers_twice(make):
    one, other = make(), make()
    assert torch.equal(one.feat, other.feat)
    assert torch.equal(one.label, other.label)
    assert all(torch.equal(*ends) for ends in zip(one.graph.edges(), other.graph.edges()))


def test_cold_start_hides_the_features_of_all_but_the_labelled(twins):
    warm, cold = (load(name, twins.planetoid()) for name in ("cora", "cora-cold"))
    train = warm.masks["train"]
    assert torch.equal(cold.feat[train], warm.feat[train])
    assert not cold.feat[~train].any()
    assert warm.feat[~train].any()


def test_a_seed_is_a_split(twins):
    data = load("minesweeper", twins.heterophilous("minesweeper"))
    assert data.metric == "roc_auc"
    for seed in (0, 3, 13):
        assert all(torch.equal(mask, data.masks[part][:, seed % 10]) for part, mask in data.split(seed).masks.items())
    settings = TrainingSettings(width=8, epochs=2)
    one, other = (run_cell(Cell("gcn", "none", 2, seed), data, settings) for seed in (0, 1))
    again = run_cell(Cell("gcn", "none", 2, 1), data.split(1), settings)
    assert one["test"] != other["test"]
    assert again["test"] == other["test"]
    assert load("roman-empire", twins.heterophilous("roman-empire")).metric == "roc_auc", "two classes in the twin"


def test_explained_variance_is_that_of_scikit_learn():
    from sklearn.metrics import r2_score

    outputs, target = torch.randn(20, 3), torch.randn(20, 3)
    assert r2(outputs, target) == pytest.approx(100 * r2_score(target, outputs), abs=1e-4)
    assert r2(target, target) == 100
    assert r2(outputs[:, :1], target[:, 0]) == pytest.approx(100 * r2_score(target[:, 0], outputs[:, 0]), abs=1e-4)


@pytest.mark.slow
def test_a_study_of_numbers_of_graphs(tmp_path, one_thread):
    name = "diameter"
    data, cells = graph_properties(name, FEW), [Cell("gin", remedy, 2, 0) for remedy in ("none", "residual")]
    document = Study(data, cells, TrainingSettings(width=16, epochs=60, lr=0.03), name=name, out=tmp_path).run()
    assert max(row["train"][0] for row in document["rows"]) > 10, "better than the mean of the targets"
    page = (tmp_path / "report.html").read_text()
    assert "explained variance (%)" in page
    assert "32 graphs" in page
    assert "1 targets" in page
    assert set(document["picture_labels"]) <= set(range(5))


def test_a_study_of_own_numbers_and_splits():
    """The public function, with two columns of numbers and masks of two splits."""
    import gnnlib

    graph = gnnlib.Graph((torch.tensor([0, 1, 2, 3]), torch.tensor([1, 0, 3, 2])), num_nodes=4)
    feat, labels = torch.eye(4), torch.randn(4, 2)
    masks = dict.fromkeys(("train", "val", "test"), torch.ones(4, 2, dtype=torch.bool))
    settings = TrainingSettings(width=16, epochs=200)
    options = {"remedies": ["linear-residual"], "depths": [2], "seeds": 2, "metric": "r2", "settings": settings}
    (row,) = depth_study(graph, feat, labels, masks, **options)["rows"]
    assert all(value > 99 for value in row["test"])


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"metric": "f1"}, r"metric: expected one of accuracy, roc_auc, r2, got 'f1'"),
        ({"metric": "r2"}, r"labels: expected numbers \(\d+, T\) for the metric r2, got torch\.int64"),
        ({"metric": "roc_auc"}, "labels: expected two classes for the metric roc_auc, got 5"),
        ({"per_graph": True}, r"labels: expected 200 integers, got torch\.int64 \(1600,\)"),
        ({"label": torch.zeros(1600)}, r"labels: expected 1600 integers, got torch\.float32"),
    ],
)
def test_invalid_parts(parts, message):
    with pytest.raises(ValueError, match=message):
        check_data(TRANSFERS[0]._replace(**parts))


def test_splits_of_other_numbers():
    masks = {part: torch.ones(1600, n, dtype=torch.bool) for part, n in zip(("train", "val", "test"), (2, 2, 3))}
    with pytest.raises(ValueError, match=r"expected as many splits in all parts, got \[\(2,\), \(3,\)\]"):
        check_data(TRANSFERS[0]._replace(masks=masks))


def test_names():
    for name in [*DATA, "ring-32", "tree-5"]:
        assert preset(name).depths
    assert preset("ring-32").depths == [2, 31, 32, 33]
    for name, message in (("ring", "unknown data"), ("ring-0", "expected 1 to 512"), ("tree-11", "expected 1 to 10")):
        with pytest.raises(UsageError, match=message):
            load(name)


def test_data_sets_are_of_one_form(twins):
    twins.heterophilous("minesweeper")
    loaded = [load(name, twins.folder) for name in ("digits", "ring-2", "tree-1", "minesweeper")]
    for data in [*loaded, *(graph_properties(name, FEW) for name in PROPERTIES)]:
        assert isinstance(data, NodeData)
        check_data(data)
        for one, other in itertools.combinations(data.split(0).masks.values(), 2):
            assert not (one & other).any()


@pytest.mark.slow
def test_energies_on_the_page_of_depth(data_dir, one_thread):
    """Those of GAT before training, on Cora."""
    if not (data_dir / "planetoid" / "ind.cora.graph").is_file():
        pytest.skip(f"no real data: {data_dir}/planetoid has no cora")
    page = Path(__file__).parents[3].joinpath("docs", "depth.md").read_text("utf-8")
    numbers = re.search(r"In the same GATs it is ([\d., and]+) at ([\d, and]+)\s+layers", page.replace("\n", " "))
    energies, depths = ([float(number) for number in re.findall(r"[\d.]+", group)] for group in numbers.groups())
    data = load("cora", data_dir)
    for depth, energy in zip(depths[:-2], energies):  # the last two take a minute
        torch.manual_seed(0)
        model = make_cell_plan(Cell("gat", "none", int(depth), 0), data, TrainingSettings()).build(
            data.graph, data.feat
        )
        x = model(data.graph, data.feat).detach()
        assert float(rayleigh_quotient(data.graph, x, norm="right")) == pytest.approx(energy, rel=0.06)
