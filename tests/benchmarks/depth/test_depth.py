"""Depth studies: remedies, statistics of layers, resuming, report and command."""

import json
import re
from itertools import product

import numpy as np
import pytest
import torch
from matplotlib.axes import Axes
from torch import nn

from gnnlib import GCNConv, SGConv
from gnnlib._platform.dgl import dgl
from gnnlib.benchmarks.__main__ import main
from gnnlib.benchmarks.arguments import parser
from gnnlib.benchmarks.catalog.remedies import make_plan
from gnnlib.benchmarks.depth import CONVS, REMEDIES, Cell, TrainingSettings, cells, depth_study, plots
from gnnlib.benchmarks.depth.command import PRESETS, DepthRequest
from gnnlib.benchmarks.depth.data import NodeData, node_data
from gnnlib.benchmarks.depth.generated import graph_properties
from gnnlib.benchmarks.depth.journal import Journal
from gnnlib.benchmarks.depth.loading import digits_graph
from gnnlib.benchmarks.depth.published import PUBLISHED, published
from gnnlib.benchmarks.errors import UsageError
from gnnlib.graph import add_self_loop
from tests.utils.test_lock import held_by_another

SETTINGS = TrainingSettings(width=8, epochs=1)
FEATS, CLASSES = 6, 4


def two_clusters(size=40, classes=2, feats=FEATS):
    """Clusters of nodes that are linked inside six times as often as outside; noisy features."""
    random = torch.Generator().manual_seed(0)
    label = torch.arange(size) % classes
    same = label.unsqueeze(1) == label
    link = torch.rand(size, size, generator=random) < torch.where(same, 0.15, 0.025)
    src, dst = (link | link.T).fill_diagonal_(False).nonzero().T
    feat = torch.randn(size, feats, generator=random)
    feat[torch.arange(size), label] += 2
    part = torch.arange(size) // classes % 3
    masks = {name: part == i for i, name in enumerate(("train", "val", "test"))}
    return NodeData(add_self_loop(dgl.graph((src, dst), num_nodes=size)), feat, label, masks)


DATA = two_clusters(classes=CLASSES)


def without_times(outcome):
    return {name: value for name, value in outcome.items() if name not in ("seconds", "commit", "commits")}


# convolutions and remedies


@pytest.mark.slow
@pytest.mark.parametrize(("conv", "remedy"), list(product(CONVS, REMEDIES)))
def test_remedies_with_convolutions(one_thread, conv, remedy):
    cell = Cell(conv, remedy, 3, 1)
    if (conv, remedy) == ("sgc-hops", "dense"):
        with pytest.raises(ValueError, match="expected equal widths without a weight"):
            cells.run_cell(cell, DATA, SETTINGS)
        return
    outcome = cells.run_cell(cell, DATA, SETTINGS)
    assert outcome["error"] is None
    assert all(0 <= outcome[part] <= 100 for part in ("train", "val", "test"))
    assert outcome["parameters"] > 0


def build(conv, remedy, depth=5, width=8):
    return make_plan(conv, remedy, depth, (FEATS, width, CLASSES)).build(DATA.graph, DATA.feat)


def test_plan_of_none():
    plan = make_plan("gcn", "none", 4, (FEATS, 8, CLASSES))
    model = plan.build(DATA.graph, DATA.feat)
    assert not plan.decay
    assert {module.p for module in model.modules() if isinstance(module, nn.Dropout)} == {0.0}
    for block in model.blocks:
        assert (block.norm, block.skip, block.drop_edge) == (None, None, None)


def test_hops_are_one_sgc_layer():
    model, layer = build("sgc-hops", "none"), SGConv(FEATS, CLASSES, k=5)
    linear = model.encoder[0]
    nn.init.zeros_(linear.bias)
    layer.fc.load_state_dict(linear.state_dict())
    torch.testing.assert_close(model(DATA.graph, DATA.feat), layer(DATA.graph, DATA.feat))


def test_gcnii_is_the_papers_equation():
    """Equation 5 on dense matrices."""
    torch.manual_seed(0)
    model = build("gcn", "gcnii", depth=4)
    adjacency = torch.zeros(len(DATA.feat), len(DATA.feat)).index_put_(DATA.graph.edges(), torch.tensor(1.0))
    degree = adjacency.sum(0).rsqrt()
    average = degree.unsqueeze(1) * adjacency.T * degree
    x = first = model.encoder(DATA.feat)
    for layer, block in enumerate(model.blocks, 1):
        beta = torch.log(torch.tensor(0.5 / layer + 1))
        x = 0.9 * average @ x + 0.1 * first
        x = torch.relu((1 - beta) * x + beta * x @ block.skip.weight)
    assert layer == 4
    torch.testing.assert_close(model(DATA.graph, DATA.feat), model.head(x))


@pytest.mark.parametrize("remedy", ["appnp", "dagnn"])
def test_propagation_follows_a_network_without_a_graph(remedy):
    """With any convolution; the receptive field is as many hops as the depth."""
    line = add_self_loop(dgl.graph((torch.arange(9), torch.arange(1, 10))))
    x = torch.eye(10).requires_grad_()
    models = [make_plan(conv, remedy, 3, (10, 8, 2)).build(line, x) for conv in ("gat", "mlp")]
    assert models[0].state_dict().keys() == models[1].state_dict().keys()
    reached = torch.autograd.grad(models[0](line, x)[9].sum(), x)[0].abs().sum(1) > 0
    assert reached.nonzero().flatten().tolist() == [6, 7, 8, 9]


def test_parameter_sharing_remedies():
    plain = sum(p.numel() for p in build("gcn", "none", 16, 32).parameters())
    for remedy in ("shared", "lowrank", "grouped", "channel"):
        assert sum(p.numel() for p in build("gcn", remedy, 16, 32).parameters()) < 0.6 * plain, remedy


REWIRINGS = ("sdrf", "fosr", "gtr", "k-hop", "virtual-node")


@pytest.mark.parametrize("remedy", REWIRINGS)
def test_rewiring_remedies(one_thread, remedy):
    """Features, labels and masks stay those of their nodes; a new node is in no part."""
    cell = Cell("gcn", remedy, 2, 0)
    _, model, data = cells.build_cell(cell, DATA, SETTINGS)
    assert data.graph.num_edges() > DATA.graph.num_edges()
    new = data.graph.num_nodes() - DATA.graph.num_nodes()
    assert new == (remedy == "virtual-node")
    assert torch.equal(data.feat[:40], DATA.feat)
    assert torch.equal(data.label[:40], DATA.label)
    assert not data.feat[40:].any()
    assert {part: mask.nonzero().flatten().tolist() for part, mask in data.masks.items()} == {
        part: mask.nonzero().flatten().tolist() for part, mask in DATA.masks.items()
    }
    assert model(data.graph, data.feat).shape == (40 + new, CLASSES)
    assert not {"feat", "label", "train"} & set(DATA.graph.ndata)
    outcome = cells.run_cell(cell, DATA, SETTINGS)
    assert len(outcome["points"]) == 40


@pytest.mark.parametrize("remedy", REWIRINGS)
def test_rewiring_a_batch_with_labels_of_graphs(one_thread, remedy):
    sizes = {"train": 7, "val": 7, "test": 7}
    data = graph_properties("diameter", sizes)
    _, _, rewired = cells.build_cell(Cell("gin", remedy, 2, 0), data, SETTINGS)
    assert rewired.graph.batch_size == data.graph.batch_size == len(rewired.label)
    added = rewired.graph.batch_num_edges() - data.graph.batch_num_edges()
    assert bool((added > 0).all())


def test_combined_remedies():
    model = build("gcn", "dropmessage+gcnii+batchnorm+dropout+dropedge+decay")
    block = model.blocks[0]
    names = [type(part).__name__ for part in (block.conv, block.norm, block.skip, block.dropout, block.drop_edge)]
    assert names == ["DropMessage", "BatchNorm", "InitialResidual", "Dropout", "DropEdge"]
    assert isinstance(block.conv.conv, GCNConv)


@pytest.mark.parametrize(
    ("conv", "remedy", "message"),
    [
        ("gnc", "none", r"unknown convolution 'gnc'; expected some of: gcn, gin"),
        (
            "gcn",
            "pairnrom",
            r"unknown remedy 'pairnrom'; expected some of: none, batchnorm, .*virtual-node, or several with \+",
        ),
        ("gcn", "batchnorm+", r"unknown remedy ''"),
        ("gcn", "batchnorm+pairnorm", r"gcn with batchnorm\+pairnorm: two of them set norm: BatchNorm and PairNorm"),
    ],
)
def test_invalid_names(conv, remedy, message):
    with pytest.raises(UsageError, match=message):
        make_plan(conv, remedy, 2, (4, 4, 4))


def test_published_figures_ignore_dropout_and_decay():
    assert published("cora", "gcn", "gcnii+dropout+decay-parts")[64].value == 85.5
    assert published("pubmed", "gcn", "none")[64].value == 35.3
    assert not published("cora", "gcn", "pairnorm")
    for data, conv, remedy in PUBLISHED:
        assert data in PRESETS
        make_plan(conv, remedy, 2, (4, 4, 4))


# outcomes of cells


@pytest.mark.slow
def test_plain_network_collapses_with_depth_and_gcnii_does_not(one_thread):
    data = two_clusters(80)
    settings = TrainingSettings(width=16, epochs=30, lr=0.02)
    document = depth_study(*data[:4], remedies=["none", "gcnii"], depths=[2, 32], settings=settings)
    accuracy = {(row["remedy"], row["depth"]): row["test"][0] for row in document["rows"]}
    assert accuracy["none", 2] > 85
    assert accuracy["none", 32] < 70
    assert accuracy["gcnii", 32] > 85
    statistics = {row["remedy"]: row["statistics"] for row in document["rows"] if row["depth"] == 32}
    assert statistics["none"][0]["verdict"] == "over-smoothing"
    assert statistics["none"][0]["distance"][-1] < 1e-4 < statistics["gcnii"][1]["distance"][-1]
    assert statistics["none"][0]["layer"] == list(range(2, 33, 2))


def test_statistics_of_a_reversible_network(one_thread):
    outcome = cells.run_cell(Cell("gcn", "reversible", 4, 0), DATA, SETTINGS)
    start, end = outcome["statistics"]
    assert start["layer"] == [1, 2, 3, 4]
    assert all(value > 0 for value in end["gradient"])


def test_diverged_loss_is_recorded(one_thread):
    outcome = cells.run_cell(Cell("gin", "none", 8, 0), DATA, SETTINGS._replace(lr=1e30, epochs=5))
    assert "try a lower learning rate" in outcome["error"]
    assert 0 <= outcome["test"] <= 100
    assert outcome["points"] is None
    json.dumps(outcome, allow_nan=False)


def test_equal_outputs_are_one_point():
    assert cells._projection(torch.ones(30, 4)) == [[0, 0]] * 30
    spread = torch.tensor(cells._projection(torch.randn(30, 4, generator=torch.Generator().manual_seed(0))))
    assert spread.abs().max() > 50


def test_digits_have_twenty_labels_a_class():
    data = digits_graph()
    assert data.label[data.masks["train"]].bincount().tolist() == [20] * 10
    assert torch.stack(list(data.masks.values())).sum(0).eq(1).all()
    src, dst = data.graph.edges()
    assert {*zip(src.tolist(), dst.tolist())} == {*zip(dst.tolist(), src.tolist())}
    assert data.graph.has_edges_between(data.graph.nodes(), data.graph.nodes()).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"feat": torch.ones(3, 2)}, r"feat: expected shape \(40, F\), got \(3, 2\)"),
        ({"label": torch.ones(40)}, r"labels: expected 40 integers, got torch.float32 \(40,\)"),
        ({"masks": {"train": DATA.masks["train"]}}, r"masks: expected train, val, test, got train"),
        ({"masks": {**DATA.masks, "val": torch.zeros(40, dtype=torch.bool)}}, r"for val, .* with 0 set"),
    ],
)
def test_invalid_data(monkeypatch, change, message):
    monkeypatch.setattr(cells, "run_cell", lambda *args: pytest.fail("a training began"))
    with pytest.raises(ValueError, match=message):
        depth_study(*DATA._replace(**change)[:4])


def test_nodes_as_numbers_and_arrays_are_the_same_data():
    """What a user may give, as the tensors and masks that a study trains on."""
    numbers = {part: mask.nonzero().flatten().tolist() for part, mask in DATA.masks.items()}
    for masks in (DATA.masks, numbers, {part: mask.numpy() for part, mask in DATA.masks.items()}):
        data = node_data(DATA.graph, DATA.feat.double().numpy(), DATA.label.tolist(), masks, "accuracy")
        assert torch.equal(data.feat, DATA.feat)
        assert torch.equal(data.label, DATA.label)
        assert all(torch.equal(data.masks[part], mask) for part, mask in DATA.masks.items())
    with pytest.raises(IndexError, match="masks: train: expected numbers from -40 to 39, got 40"):
        depth_study(*DATA._replace(masks={**numbers, "train": [40]})[:4])


# resuming

SMALL = dict(convs=["gcn"], remedies=["none", "dropedge+dropout"], depths=[2], seeds=2, settings=SETTINGS)


@pytest.fixture(scope="module")
def rows():
    return [without_times(row) for row in depth_study(*DATA[:4], **SMALL)["rows"]]


@pytest.mark.slow
def test_stopped_study_resumes_to_the_same_figures(monkeypatch, tmp_path, rows):
    trained = []

    def stop(cell, outcome):
        trained.append(cell)
        if len(trained) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        depth_study(*DATA[:4], **SMALL, out=tmp_path, on_cell=stop)
    path = tmp_path / "cells.jsonl"
    before = path.read_text()
    assert before.count("\n") == 4, "the first line describes the study"
    path.write_text(before[:-20])  # the last line is cut off
    resumed = []
    document = depth_study(*DATA[:4], **SMALL, out=tmp_path, on_cell=lambda cell, outcome: resumed.append(cell))
    assert len(resumed) == 4 - 2
    assert set(resumed) & set(trained) == {trained[-1]}
    assert [without_times(row) for row in document["rows"]] == rows
    assert path.read_text().startswith("".join(before.splitlines(keepends=True)[:3]))
    monkeypatch.setattr(cells, "run_cell", lambda *args: pytest.fail("a training began"))
    assert depth_study(*DATA[:4], **SMALL, out=tmp_path)["rows"] == document["rows"]


@pytest.mark.process
def test_processes_give_the_same_figures(tmp_path, rows, preloaded):
    document = depth_study(*DATA[:4], **SMALL, jobs=2)
    assert [without_times(row) for row in document["rows"]] == rows


@pytest.mark.slow
def test_failed_cell_keeps_other_cells(monkeypatch, tmp_path, one_thread):
    run_cell = cells.run_cell

    def run(cell, *args):
        if cell.remedy == "residual":
            raise MemoryError("no room")
        return run_cell(cell, *args)

    monkeypatch.setattr(cells, "run_cell", run)
    options = dict(depths=[2], remedies=["none", "residual", "batchnorm"], settings=SETTINGS, out=tmp_path)
    with pytest.raises(
        ValueError, match=r"1 of 3 cells failed.*gcn with residual, 2 layers, seed 0: MemoryError: no room"
    ):
        depth_study(*DATA[:4], **options)
    rows = json.loads((tmp_path / "results.json").read_text())["rows"]
    assert [row["remedy"] for row in rows] == ["none", "batchnorm"]


def test_journal(tmp_path, capsys):
    path, origin = tmp_path / "cells.jsonl", {"data": "mine"}
    first, second = Cell("gcn", "none", 2, 0), Cell("gcn", "none", 4, 0)
    journal = Journal(path, origin, Cell)
    journal.add(first, {"test": 1.0})
    journal.add(second, {"test": 2.0})
    assert Journal(path, origin, Cell).entries == {first: {"test": 1.0}, second: {"test": 2.0}}
    assert not capsys.readouterr().err

    for damaged in (path.read_text()[:-1], path.read_text().replace("2.0", "3.0")):
        text = path.read_text()
        path.write_text(damaged)
        assert Journal(path, origin, Cell).entries == {first: {"test": 1.0}}
        assert "1 damaged or cut off" in capsys.readouterr().err
        path.write_text(text)
    path.write_text(text[:-1])
    assert Journal(path, origin, Cell).entries == {first: {"test": 1.0}}
    capsys.readouterr()
    assert path.read_text().endswith("}\n"), "so that the next line begins a line"

    assert Journal(path, {"data": "other"}, Cell).entries == {}
    assert "has other data; kept as cells-1.jsonl" in capsys.readouterr().err
    assert first in Journal(tmp_path / "cells-1.jsonl", origin, Cell).entries


@pytest.mark.process
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded")  # Python 3.12, of fork
def test_a_second_study_in_the_same_folder_says_who_is_there(tmp_path, monkeypatch):
    monkeypatch.setattr(cells, "run_cell", lambda *args: pytest.fail("a training began"))
    with held_by_another(tmp_path / "lock") as child:
        with pytest.raises(UsageError, match=f"expected {tmp_path} to be free, got one in use by process {child} on "):
            depth_study(*DATA[:4], **SMALL, out=tmp_path)
        assert [path.name for path in tmp_path.iterdir()] == ["lock"]


@pytest.mark.slow
def test_study_resumes_from_results(tmp_path, capsys, monkeypatch, one_thread):
    """As it does in a clone, where only ``results.json`` is committed."""
    first = depth_study(*DATA[:4], **SMALL, out=tmp_path)
    (tmp_path / "cells.jsonl").unlink()
    monkeypatch.setattr("gnnlib.benchmarks.depth.study.machine", lambda: "another machine")
    trained = []
    options = SMALL | {"depths": [*SMALL["depths"], 5]}
    second = depth_study(*DATA[:4], **options, out=tmp_path, on_cell=lambda cell, outcome: trained.append(cell.depth))
    assert set(trained) == {5}
    rows = {(row["conv"], row["remedy"], row["depth"]): row for row in second["rows"]}
    assert all(rows[row["conv"], row["remedy"], row["depth"]] == row for row in first["rows"])
    assert {place for row in second["rows"] for place in row["machines"]} == {*first["machines"], "another machine"}
    assert "another machine" in (tmp_path / "report.html").read_text()
    assert {str(picture) for picture in first["pictures"]} & {str(picture) for picture in second["pictures"]}
    assert not capsys.readouterr().err

    monkeypatch.setattr("gnnlib.benchmarks.depth.report.write_report", lambda folder: None)
    (tmp_path / "cells.jsonl").unlink()
    (tmp_path / "results.json").write_text('{"rows": [')
    depth_study(*DATA[:4], **SMALL, out=tmp_path)
    assert re.search(r"results\.json is damaged \(.+\); kept as results-1\.json", capsys.readouterr().err)
    depth_study(*DATA[:4], **(SMALL | {"settings": SETTINGS._replace(lr=0.1)}), out=tmp_path)
    errors = capsys.readouterr().err
    assert "cells.jsonl has other settings" in errors
    assert "results.json has other settings" in errors


# the report and the command


def test_a_remedy_has_one_colour_in_all_plots():
    """And remedies of one plot have different ones, whatever is best for each convolution."""
    rng = np.random.default_rng(0)
    remedies = ["none", *(f"remedy{i}" for i in range(14))]
    rows = [
        {"conv": conv, "remedy": remedy, "depth": 8, "test": [value], "validation": [value]}
        for conv in ("gcn", "gat", "sage", "gin", "mlp")
        for remedy in remedies
        for value in rng.random(1).tolist()
    ]
    document = {"rows": rows}
    places = plots.places(document)
    assert places["none"] is None
    for conv in ("gcn", "gat", "sage", "gin", "mlp"):
        shown = plots.chosen(document, conv)
        assert len({places[remedy] for remedy in shown}) == len(shown)
        lines = plots.accuracy_by_depth(document, conv).lines
        assert [line.get_color() for line in lines] == [plots.colour(document, remedy) for remedy in shown]


@pytest.mark.slow
def test_report_and_pictures(tmp_path, one_thread):
    document = depth_study(*DATA[:4], **SMALL, out=tmp_path, name="cora")
    page = (tmp_path / "report.html").read_text()
    assert not re.search(r"""(src|href)=["'](?!data:|#)""", page), "nothing is loaded"
    assert "<script" not in page
    assert "28.7 at 64" in page
    assert "results.json" in page.rpartition("<footer>")[2]
    assert "DropEdge" in page
    assert "untuned: the same for all cells" in page
    assert "tuned on validation data" not in page
    for remedy in ("none", "dropedge+dropout"):
        assert f'<th scope="row">{remedy}</th><td class="good"' in page
    names = {path.name for path in (tmp_path / "plots").iterdir()}
    assert names >= {"gcn-accuracy.png", "gcn-distance-curves.png", "gcn-gradient-curves.png", "gcn-outputs.png"}

    def refuse(constant):
        pytest.fail(f"{constant} is not JSON")

    text = (tmp_path / "results.json").read_text()
    assert json.loads(text, parse_constant=refuse)["rows"] == document["rows"]
    axes = plots.heat_map(document, "gcn")
    assert isinstance(axes, Axes)
    assert len(axes.texts) == 2
    assert plots.accuracy_by_depth(document, "gcn", ax=axes) is axes
    assert len(plots.measure_by_layer(document, "gcn", "distance").lines) == 4


@pytest.mark.slow
def test_command(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr("gnnlib.benchmarks.depth.command.load", lambda name, folder: DATA)
    words = [
        "depth",
        "cora",
        "--convs",
        "gin",
        "--remedies",
        "none,gcnii+decay",
        "--depths",
        "2",
        "--epochs",
        "1",
    ]
    assert main([*words, "--width", "8", "--jobs", "1", "--out", str(tmp_path)]) == 0
    shown = capsys.readouterr()
    assert "gin with gcnii+decay, 2 layers, seed 0" in shown.err
    assert "gcnii+decay" in shown.out
    folder = tmp_path / "depth-cora-width8-epochs1"
    assert (folder / "report.html").exists()
    assert json.loads((folder / "results.json").read_text())["command"] == (
        "python -m benchmarks depth cora --convs gin --remedies none,gcnii+decay --depths 2 --width 8 --epochs 1"
    )


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["cota"], "unknown data 'cota'; expected one of: digits, cora, citeseer, pubmed"),
        (["--convs", "gcn,resnet"], "unknown convolution 'resnet'"),
        (["--remedies", "none,magic"], "unknown remedy 'magic'"),
        (["--convs", "sgc-hops", "--remedies", "dense"], "sgc-hops with dense"),
    ],
)
def test_invalid_arguments_raise_before_training(monkeypatch, tmp_path, capsys, words, message):
    monkeypatch.setattr(cells, "run_cell", lambda *args: pytest.fail("a training began"))
    assert main(["depth", *words, "--out", str(tmp_path / "results")]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"benchmarks: error: {message}")
    assert error.count("\n") == 1
    assert not (tmp_path / "results").exists()


def test_help(capsys):
    with pytest.raises(SystemExit, match="0"):
        main(["depth", "--help"])
    text = capsys.readouterr().out
    for flag in (
        "--convs A,B",
        "--remedies A,B+C",
        "--depths N,M",
        "--seeds N",
        "--jobs N",
        "--data DIR",
        "--drop P",
        "--tune N",
    ):
        assert re.search(rf"^  {re.escape(flag)}\s+\w+", text, re.M), flag
    for example in re.findall(r"^  python -m benchmarks (depth.*?)(?:   .*)?$", text, re.M):
        options = parser().parse_args(example.split())
        request = DepthRequest(options.name, options.convs, options.remedies, options.depths, options.seeds)
        assert request.cells()
