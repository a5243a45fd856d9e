"""Node classification at three sizes: each mode, each use of labels, on small graphs."""

import pytest
import torch
from torch import nn

from gnnlib.benchmarks.catalog.layers import choices, choose
from gnnlib.benchmarks.errors import UsageError
from gnnlib.benchmarks.tasks import TASKS, Options
from gnnlib.large.sampling import gcn_edge_weights
from gnnlib.large.tables import NpyMatrix
from gnnlib.train.checkpoints import Checkpoint
from gnnlib.train.loop import Batch
from tests.ogb_raw import needs_ogb, write_nodes

pytestmark = pytest.mark.usefixtures("one_thread")
MODES = {"full": "gcn", "sampled": "gcn", "clusters": "sage", "propagated": "sign"}


@pytest.fixture
def load(monkeypatch):
    def made(name="planted", limit=None, **options):
        task = TASKS[name]()
        monkeypatch.setattr(type(task), "width", 16)
        options = Options(limit=limit or (400 if name == "planted" else None), **options)
        task.load(options)
        return task, options

    return made


def run(task, options, layer, seed=0, **changed):
    records = []
    outcome = task.run(choices(task.extra_layers)[layer], seed, options, records.append)
    assert [record["epoch"] for record in records] == list(range(1, len(records) + 1))
    assert outcome.curve == {key: [record[key] for record in records] for key in records[0]} if records else True
    return outcome


@pytest.mark.parametrize(("mode", "layer"), MODES.items())
def test_every_mode_learns_and_measures_memory(load, mode, layer):
    task, options = load(mode=mode, epochs=3)
    outcome = run(task, options, layer)
    assert outcome.curve["loss"][-1] < outcome.curve["loss"][0]
    assert outcome.validation == max(outcome.curve["validation"])
    assert outcome.parameters == sum(p.numel() for p in outcome.model.parameters())
    assert 0 < outcome.figures["peak memory, MiB"] < 4096
    again = run(task, options, layer)
    assert (again.score, again.curve) == (outcome.score, outcome.curve)


def test_training_ends_where_validation_rises_no_more(load):
    task, options = load(mode="propagated", epochs=40, patience=2, schedule="cosine")
    curve = run(task, options, "sgc").curve["validation"]
    best = curve.index(max(curve))
    assert len(curve) == best + 3 < 40


def test_the_network_is_the_same_in_every_mode(load):
    """Its score on the test nodes, whichever way it goes over the graph, is that of the whole graph at once."""
    for layer in ("gcn", "sage", "mlp"):
        results = {}
        for mode in ("full", "sampled", "clusters"):
            task, _ = load(mode=mode)
            torch.manual_seed(0)
            model, _ = task._build(choices(task.extra_layers)[layer], task.in_feats)
            one = task._mode(choices(task.extra_layers)[layer])
            results[mode] = one.outputs(model, task.feat, task.split["test"])
        assert all(torch.allclose(outputs, results["full"], atol=1e-5) for outputs in results.values())
    edge = gcn_edge_weights(task.graph) if layer == "gcn" else None
    model.eval()
    x = task.feat[torch.arange(400)]
    assert torch.allclose(model(task.graph, x, edge)[task.split["test"]], results["full"], atol=1e-5)


@pytest.mark.parametrize("layer", ["sgc", "gfnn", "sign"])
def test_hops_on_the_disk_are_those_of_the_whole_graph(load, layer):
    (full, _), (task, _) = load(mode="full"), load(mode="propagated")
    chosen, rows = choices(task.extra_layers)[layer], torch.tensor([7, 3, 300])
    x = task._features(chosen)[rows]
    assert torch.equal(x, full._features(chosen)[rows])
    assert x.shape == (3, 4 if layer == "sign" else 1, 128)
    assert isinstance(task.feat, NpyMatrix), "features stay on the disk"


@pytest.mark.parametrize("mode", ["full", "sampled", "clusters"])
def test_input_labels_exclude_targets(load, monkeypatch, mode):
    task, options = load(mode=mode, labels="input", epochs=2)
    targets = []

    def told(model, batch: Batch, **precision):
        blocks = batch.graph if isinstance(batch.graph, list) else None
        shown = batch.x[:, 128:]
        visible = shown[: len(batch.target)] if blocks else shown[batch.rows]
        assert shown.shape[1] == task.num_outputs
        if model.training:
            assert not visible.any()
            targets.append(len(batch.target))
        y = model(batch.graph, batch.x, batch.edge)
        return y if batch.rows is None else y[batch.rows]

    monkeypatch.setattr("gnnlib.train.loop._output", told)
    run(task, options, "sage")
    assert sum(targets) == len(task.split["train"]), "half of them in each of two epochs"


def test_distillation_trains_a_second_network_and_goes_on_where_it_was_killed(load, tmp_path):
    task, options = load(mode="sampled", labels="distil", epochs=2)

    class Killed(Exception):
        pass

    def with_checkpoint(path):
        return Options(limit=400, mode="sampled", labels="distil", epochs=2, checkpoint=Checkpoint(tmp_path / path))

    expected = run(task, with_checkpoint("whole.checkpoint"), "sage")

    def kill(record):
        raise Killed

    with pytest.raises(Killed):  # after the first epoch of the second network
        task.run(choices(task.extra_layers)["sage"], 0, with_checkpoint("killed.checkpoint"), kill)
    assert (tmp_path / "killed-teacher.checkpoint").exists()
    torch.manual_seed(99)
    outcome = run(task, with_checkpoint("killed.checkpoint"), "sage")
    assert (outcome.score, outcome.curve) == (expected.score, expected.curve)
    assert not list(tmp_path.glob("*teacher*"))
    plain, options = load(mode="sampled", epochs=2)
    assert run(plain, options, "sage").curve != expected.curve


def test_correct_and_smooth_improves_accuracy(load):
    task, options = load(labels="correct-smooth", epochs=3)
    outcome = run(task, options, "mlp")
    assert outcome.score > outcome.figures["before correct-smooth, %"] + 10


def test_labels_alone(load):
    task, options = load()
    outcome = run(task, options, "labels")
    assert outcome.score > 50
    assert outcome.parameters == 0


def test_default_layers_are_those_that_the_mode_serves(load):
    for mode, names in (("full", {"gcn", "sign"}), ("sampled", {"gcn"}), ("propagated", {"sgc", "gfnn", "sign"})):
        task, _ = load(mode=mode)
        serves = {name for name in task.layers if choices(task.extra_layers)[name].fits(task.geometry)}
        assert names <= serves
        assert ("gcn" in serves) == (mode != "propagated")
    with pytest.raises(UsageError, match="planted has no graph for layer 'gcn'; expected one of: sgc, gfnn, sign"):
        choose(["gcn"], task.geometry, "planted", task.extra_layers)


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"mode": "propagated", "labels": "input"}, "--labels input: expected another --mode than propagated"),
        ({"remedy": "nothing"}, "unknown remedy 'nothing'; expected some of"),
        ({"remedy": "layerwise"}, "--remedy: planted trains networks as a whole, got 'layerwise'"),
    ],
)
def test_invalid_combinations_of_options(load, options, error):
    with pytest.raises(UsageError, match=error):
        load(**options)


def test_pairnorm_is_refused_in_batches(load):
    task, options = load(mode="sampled", remedy="pairnorm", epochs=1)
    with pytest.raises(ValueError, match=r"treat nodes one by one, got PairNorm\(feats=16\)"):
        run(task, options, "sage")


@needs_ogb
@pytest.mark.parametrize(
    ("name", "mode", "layer"),
    [
        ("ogbn-arxiv", "full", "gcn"),
        ("ogbn-mag", "full", "sage"),
        ("ogbn-products", "sampled", "sage"),
        ("ogbn-proteins", "clusters", "sage"),
        ("ogbn-papers100M", "propagated", "sgc"),
    ],
)
def test_ogbs_tasks_by_their_own_loader_and_evaluator(load, tmp_path, name, mode, layer):
    write_nodes(tmp_path, name)
    task, options = load(name, data=tmp_path, mode=mode, epochs=2)
    outcome = run(task, options, layer)
    assert 0 <= outcome.score <= 100
    src, dst = task.graph.edges()
    assert bool((src == dst).any()) == (mode != "propagated"), "self-loops, while there is a graph"
    if mode == "full":
        assert torch.equal(task.graph.in_degrees(), task.graph.out_degrees()), "links in both directions"
        assert isinstance(outcome.model.blocks[0].norm, nn.BatchNorm1d)


@needs_ogb
@pytest.mark.slow
@pytest.mark.parametrize("mode", ["full", "sampled"])
def test_rgcn_on_all_node_types(load, tmp_path, mode):
    """In the twin, the field of a paper is its class: RGCN finds it there, and the citations are noisy."""
    write_nodes(tmp_path, "ogbn-mag")
    task, options = load("ogbn-mag", data=tmp_path, mode=mode, epochs=25)
    outcome = run(task, options, "rgcn")
    assert outcome.score > 90
    assert set(task.typed.ntypes) == {"author", "field_of_study", "institution", "paper"}
    assert len(task.typed.canonical_etypes) == 7
    cites = task.typed["cites"]
    assert torch.equal(cites.in_degrees(), cites.out_degrees()), "in both directions"
    embedded = sum(task.typed.num_nodes(ntype) for ntype in ("author", "field_of_study", "institution"))
    layers = 7 * (8 * 64 + 64 * 349) + 4 * (9 * 64 + 65 * 349)
    assert outcome.parameters == 8 * embedded + layers
    short = Options(data=tmp_path, mode=mode, epochs=2)
    curves = [run(task, short, "rgcn").curve for _ in range(2)]
    assert curves[0] == curves[1]
    assert run(task, short, "sage").parameters < outcome.parameters, "the other layers take the citations"


@needs_ogb
def test_rgcn_needs_types_and_takes_no_remedies(load, tmp_path):
    write_nodes(tmp_path, "ogbn-mag")
    for options in ({"mode": "propagated"}, {"mode": "clusters"}, {"labels": "input"}):
        task, _ = load("ogbn-mag", data=tmp_path, **options)
        with pytest.raises(UsageError, match="ogbn-mag has no types for layer 'rgcn'; expected one of"):
            choose(["rgcn"], task.geometry, "ogbn-mag", task.extra_layers)
    task, options = load("ogbn-mag", data=tmp_path, remedy="dropout", epochs=1)
    with pytest.raises(
        UsageError, match="--remedy: expected another layer than rgcn, whose network is fixed, got 'drop"
    ):
        run(task, options, "rgcn")
