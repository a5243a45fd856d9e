"""OGB's tasks on graphs: the networks of its baselines, the losses of its kinds of tasks, runs on twins."""

import pytest
import torch
from torch import nn

from gnnlib import BatchNorm, readout_sum
from gnnlib.benchmarks.catalog.layers import choices
from gnnlib.benchmarks.errors import UsageError
from gnnlib.benchmarks.tasks import TASKS, Options
from gnnlib.benchmarks.tasks.ogb_graphs import LOSSES, OGBGraphs
from tests.benchmarks.tasks.test_tasks import run
from tests.ogb_raw import needs_ogb, write_graphs

pytestmark = [pytest.mark.usefixtures("one_thread"), needs_ogb]


@pytest.fixture
def load(tmp_path, monkeypatch):
    """A task on a twin of its data, with a network as small as does."""
    monkeypatch.setattr(OGBGraphs, "sizes", dict.fromkeys(OGBGraphs.sizes, (16, 0.2)))
    monkeypatch.setattr(OGBGraphs, "num_layers", 3)
    monkeypatch.setattr(OGBGraphs, "batch_size", 6)

    def load(name="ogbg-molhiv", limit=None, remedy=None, **changed):
        write_graphs(tmp_path / "data", name, **changed)
        task = TASKS[name]()
        task.load(Options(data=tmp_path / "data", limit=limit, remedy=remedy))
        return task

    return load


# ---------------------------------------------------------------- what a task is


def test_settings_follow_ogbs_table():
    tasks = {name: task for name, task in TASKS.items() if name.startswith("ogbg-")}
    settings = {name: (t.metric, t.unit, t.higher_is_better, t.seeds, t.epochs, t.remedy) for name, t in tasks.items()}
    assert settings["ogbg-molhiv"] == ("test ROC-AUC", "%", True, 10, 50, "small")
    assert settings["ogbg-molpcba"] == ("test average precision", "%", True, 10, 100, "published")
    assert settings["ogbg-molesol"] == ("test RMSE", "", False, 10, 100, "published")
    assert settings["ogbg-ppa"] == ("test accuracy", "%", True, 10, 100, "published")
    assert len(tasks) == 14
    assert "128 tasks: average precision" in TASKS["ogbg-molpcba"].summary
    assert "1 task: ROC-AUC" in TASKS["ogbg-molhiv"].summary


@pytest.mark.parametrize("remedy", ["small", "published", "batchnorm+residual+dropout"])
@pytest.mark.parametrize("layer", [*OGBGraphs.layers, "ecc", "gat"])
def test_every_layer_runs_on_a_twin(load, layer, remedy):
    task = load(remedy=remedy)
    outcome = run(task, layer, Options(epochs=1))
    assert outcome.validation == outcome.curve["validation"][0]
    if layer == "gin-virtual":
        assert run(task, layer, Options(epochs=1)) == outcome


@pytest.mark.parametrize("name", ["ogbg-moltox21", "ogbg-molesol", "ogbg-ppa"])
def test_every_kind_of_task_runs_on_a_twin(load, name):
    task = load(name, num_graphs=12 if name == "ogbg-molesol" else 24)
    outcome = run(task, "gin-virtual", Options(epochs=2))
    best = min if name == "ogbg-molesol" else max
    assert outcome.validation == best(outcome.curve["validation"])


def test_molecules_are_learnt_and_scored_by_the_evaluator(load):
    task = load()
    assert run(task, "gin", Options(epochs=25)).score == 100.0, "the first atom tells the class"


def test_bonds_tell_classes_that_atoms_do_not(load):
    """All atoms are alike, and the bonds of class 1 are of another kind."""
    sizes, labels = [3 + i % 4 for i in range(24)], [i % 2 for i in range(24)]
    bonds = [[label, 0, 0] for n, label in zip(sizes, labels) for _ in range(n)]
    task = load(**{"raw/node-feat": [[0] * 9] * sum(sizes), "raw/edge-feat": bonds})
    assert run(task, "gin", Options(epochs=20)).score == 100.0


@pytest.mark.parametrize("remedy", ["none", "initial+pairnorm", "jk-cat", "dense+decay-parts", "reversible", "gru"])
def test_remedies_go_with_bonds(load, remedy):
    outcome = run(load(remedy=remedy), "gin", Options(epochs=1))
    assert 0 <= outcome.validation <= 100


@pytest.mark.parametrize(
    ("remedy", "message"),
    [
        ("nothing", "unknown remedy 'nothing'; expected some of: none, batchnorm.*; or published or small alone$"),
        ("layerwise", "--remedy: ogbg-molhiv trains networks as a whole, got 'layerwise'"),
        ("appnp", "two of them set readout: .* and readout_mean"),
    ],
)
def test_invalid_remedies_are_refused_before_training(load, remedy, message):
    with pytest.raises(UsageError, match=message):
        load(remedy=remedy)


@pytest.mark.parametrize("remedy", ["jk-cat", "dense", "reversible"])
def test_a_virtual_node_wants_layers_of_one_width_in_a_row(load, remedy):
    with pytest.raises(UsageError, match=f"GIN, virtual node with {remedy}: expected layers of one width in a row"):
        run(load(remedy=remedy), "gin-virtual", Options(epochs=1))


def test_an_interrupted_run_ends_as_it_would_have(load, tmp_path):
    from gnnlib.train.checkpoints import Checkpoint

    task, reference = load(), []
    layer = choices(task.extra_layers)["gin-virtual"]
    expected = task.run(layer, 0, Options(epochs=3), reference.append)

    class Killed(Exception):
        pass

    def kill(record):
        if record["epoch"] == 2:
            raise Killed

    with pytest.raises(Killed):
        task.run(layer, 0, Options(epochs=3, checkpoint=Checkpoint(tmp_path / "kept.pt")), kill)
    again = task.run(layer, 0, Options(epochs=3, checkpoint=Checkpoint(tmp_path / "kept.pt")), reference.append)
    assert again == expected


# ---------------------------------------------------------------- what it is made of


def test_the_networks_have_the_parameters_of_the_official_baselines():
    """The leaderboard's numbers; and here a bias for the bonds of each layer, and one more category of atoms, which
    ogb 1.3 has."""
    task = TASKS["ogbg-molhiv"]()
    task.remedies = "published"
    task.atoms, task.bonds = [119, 5, 12, 12, 10, 6, 6, 2, 2], [5, 6, 2]

    class Ogb:
        out_feats = 1

    task.ogb, task.geometry = Ogb(), type(task.geometry)(edge_feats=13)
    models = {name: task.model(choices(task.extra_layers)[name])[0] for name in OGBGraphs.layers}
    counts = {name: sum(p.numel() for p in model.parameters()) for name, model in models.items()}
    official = {"gin": 1_885_206, "gcn": 527_701, "gin-virtual": 3_336_306, "gcn-virtual": 1_978_801}
    assert counts == {name: count + 5 * 300 + 300 for name, count in official.items()}


def test_parameters_of_the_small_network():
    task = TASKS["ogbg-molhiv"]()
    task.remedies, task.atoms, task.bonds = "small", [119, 5, 12, 12, 10, 6, 6, 2, 2], [5, 6, 2]
    task.ogb, task.geometry = type("Ogb", (), {"out_feats": 1})(), type(task.geometry)(edge_feats=13)
    model, _ = task.model(choices(task.extra_layers)["gin"])
    first, second = model.blocks
    assert (type(first.norm), second.norm, second.activation, model.readout) == (BatchNorm, None, None, readout_sum)
    mlp = 64 * 128 + 128 + 2 * 128 + 128 * 64 + 64
    layer = mlp + 1 + 13 * 64 + 64  # with epsilon and bonds
    expected = sum(task.atoms) * 64 + 2 * layer + 2 * 64 + 64 * 64 + 64 + 64 + 1
    assert sum(p.numel() for p in model.parameters()) == expected == 50_947


def test_every_layer_encodes_the_bonds_anew_and_the_last_is_not_rectified(load):
    model, _ = load(remedy="published").model(choices(OGBGraphs.extra_layers)["gcn"])
    assert len({id(block.conv.edge_func.weight) for block in model.blocks}) == 3
    rectified = [any(isinstance(m, nn.ReLU) for m in block.activation.modules()) for block in model.blocks]
    assert rectified == [True, True, False]


def test_a_batch(load):
    task = load()
    batch = task.batch(torch.tensor([2, 0]))
    codes = batch.graph.edata["feat"]
    assert batch.edge.shape == (len(codes), sum(task.bonds))
    assert batch.edge.sum(1).eq(3).all()
    assert batch.edge.gather(1, codes + torch.tensor([0, 5, 11])).eq(1).all()
    assert torch.equal(batch.x, batch.graph.ndata["feat"])
    assert batch.target.tolist() == [[0], [0]]
    assert batch.graph.batch_num_nodes().tolist() == [5, 3]


def test_nodes_without_features_are_all_alike(load):
    task = load("ogbg-ppa")
    batch = task.batch(torch.tensor([0, 1]))
    assert batch.x.tolist() == [[0]] * 7
    assert batch.edge.shape == (14, 7)
    assert task.atoms == [1]


def test_a_limit_with_one_class_is_refused_before_training(load):
    message = r"valid: 1 graphs do not do for test ROC-AUC \(No positively labeled data.*\); expected a larger --limit"
    with pytest.raises(ValueError, match=message):
        load(limit=1)


def test_losses_pass_over_absent_labels():
    outputs = torch.tensor([[0.5, -1.0], [2.0, 3.0]], requires_grad=True)
    labels = torch.tensor([[1.0, torch.nan], [torch.nan, 0.0]])
    loss = LOSSES["binary classification"](outputs, labels)
    expected = (nn.functional.softplus(torch.tensor(-0.5)) + nn.functional.softplus(torch.tensor(3.0))) / 2
    torch.testing.assert_close(loss, expected)
    loss.backward()
    assert outputs.grad[0, 1] == outputs.grad[1, 0] == 0
    assert LOSSES["regression"](outputs.detach(), labels).item() == (0.25 + 9.0) / 2
    scores = torch.tensor([[2.0, 0.0, 0.0]])
    classes = LOSSES["multiclass classification"](scores, torch.tensor([[0]]))
    torch.testing.assert_close(classes, -scores.log_softmax(1)[0, 0])
