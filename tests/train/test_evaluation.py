"""`fit` with a validation part, schedulers, devices and reports; `evaluate`; `predict`; the history."""

import csv
import inspect
import math
import re
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.optim import lr_scheduler

import gnnlib
from gnnlib import BatchNorm, GCNConv, Stack, evaluate, fit, predict, readout_mean
from gnnlib.testing.graphs import random_graph
from gnnlib.train import Batch, Checkpoint, History, TensorBoard
from gnnlib.train.loop import outputs_and_targets
from gnnlib.train.metrics import compute_metrics

FEATS = 4


def graph():
    torch.manual_seed(0)
    g = random_graph(40, 160, seed=0)
    g.ndata["feat"], g.ndata["label"] = torch.randn(40, FEATS), torch.arange(40) % 3
    return g


def net(**options):
    torch.manual_seed(0)
    return Stack.build(GCNConv, FEATS, 8, 3, num_layers=2, **options)


def parts():
    g = graph()
    return [Batch.from_graph(g, rows=torch.arange(40) % 4 == i) for i in range(3)]


def test_records_of_the_validation_part_are_what_the_model_gives():
    train, val, _ = parts()
    seen, model = [], net()

    def measure():
        outputs, target = outputs_and_targets(model, [val])
        seen.append((nn.functional.cross_entropy(outputs, target).item(), compute_metrics(outputs, target)["accuracy"]))
        return {}

    history = fit(model, train, val=val, epochs=5, measure=measure)
    assert [(record["val_loss"], record["val_accuracy"]) for record in history] == seen


@pytest.mark.parametrize(
    ("score", "best"),
    [
        (None, lambda records: min(records, key=lambda r: r["val_loss"])),
        ("val_accuracy", lambda records: max(records, key=lambda r: r["val_accuracy"])),
        ("val_loss", lambda records: min(records, key=lambda r: r["val_loss"])),
        ("loss", lambda records: min(records, key=lambda r: r["loss"])),
        (lambda record: record["epoch"] == 2, lambda records: records[1]),
    ],
)
def test_the_weights_are_those_of_the_best_score(score, best):
    train, val, _ = parts()
    model = net()
    history = fit(model, train, val=val, epochs=12, score=score, optimizer=partial(torch.optim.SGD, lr=2.0))
    assert history.best == best(list(history))
    assert evaluate(model, val)["loss"] == pytest.approx(history.best["val_loss"])


def test_early_stopping_waits_for_the_validation_loss():
    train, val, _ = parts()
    history = fit(net(), train, val=val, epochs=400, patience=3)
    losses = history["val_loss"]
    assert len(history) < 400
    assert losses.index(min(losses)) == len(losses) - 4


def test_metrics_on_request():
    train, val, _ = parts()
    assert set(fit(net(), train, val=val, epochs=1)[0]) == {"epoch", "loss", "val_loss", "val_accuracy"}
    chosen = fit(net(), train, val=val, epochs=1, metrics=["f1", "roc_auc"])[0]
    assert set(chosen) == {"epoch", "loss", "val_loss", "val_f1", "val_roc_auc"}
    record = fit(net(), train, nn.functional.cross_entropy, val=val, epochs=1)[0]
    assert set(record) == {"epoch", "loss", "val_loss"}


def test_defaults_are_what_they_say():
    train, *_ = parts()
    torch.manual_seed(1)
    one = net()
    fit(one, train, epochs=3)
    torch.manual_seed(1)
    other = net()
    adam = torch.optim.Adam(other.parameters(), lr=0.01)
    fit(other, lambda: [train], nn.functional.cross_entropy, adam, 3)
    torch.testing.assert_close(one.state_dict(), other.state_dict(), rtol=1e-5, atol=1e-6)


def test_balanced_weights_are_those_of_the_targets():
    """Of all batches; a class without examples has none, wherever it stands."""
    train, *_ = parts()
    rare = train._replace(target=(torch.arange(len(train.target)) % 5 == 0).long())
    results = []
    for weight in ("balanced", [0.625, 2.5, 0.0], None):
        model = net()
        results.append((list(fit(model, [rare, rare], epochs=3, class_weight=weight)), model.state_dict()))
    assert results[0][0] == results[1][0] != results[2][0]
    torch.testing.assert_close(results[0][1], results[1][1], rtol=0, atol=0)


ARGUMENTS = {
    lr_scheduler.LambdaLR: dict(lr_lambda=lambda epoch: 0.9**epoch),
    lr_scheduler.MultiplicativeLR: dict(lr_lambda=lambda epoch: 0.9),
    lr_scheduler.StepLR: dict(step_size=2),
    lr_scheduler.MultiStepLR: dict(milestones=[2, 4]),
    lr_scheduler.ConstantLR: {},
    lr_scheduler.LinearLR: {},
    lr_scheduler.ExponentialLR: dict(gamma=0.9),
    lr_scheduler.PolynomialLR: {},
    lr_scheduler.CosineAnnealingLR: dict(T_max=6),
    lr_scheduler.CosineAnnealingWarmRestarts: dict(T_0=2),
    lr_scheduler.CyclicLR: dict(base_lr=0.001, max_lr=0.1, step_size_up=2, cycle_momentum=False),
    lr_scheduler.OneCycleLR: dict(max_lr=0.1, total_steps=30),
    lr_scheduler.ReduceLROnPlateau: dict(patience=1),
    torch.optim.swa_utils.SWALR: dict(swa_lr=0.05),
}


def chained(optimizer):
    return lr_scheduler.ChainedScheduler([lr_scheduler.LinearLR(optimizer), lr_scheduler.ExponentialLR(optimizer, 0.9)])


def sequential(optimizer):
    first, second = lr_scheduler.ConstantLR(optimizer, total_iters=2), lr_scheduler.ExponentialLR(optimizer, 0.9)
    return lr_scheduler.SequentialLR(optimizer, [first, second], milestones=[3])


SCHEDULES = {kind.__name__: partial(kind, **options) for kind, options in ARGUMENTS.items()}
SCHEDULES |= {"ChainedScheduler": chained, "SequentialLR": sequential}


def test_all_schedulers_of_torch_are_there():
    kinds = {
        name for name, value in vars(lr_scheduler).items() if inspect.isclass(value) and name in lr_scheduler.__all__
    }
    assert kinds - {"LRScheduler", "_LRScheduler"} <= set(SCHEDULES)


@pytest.mark.slow
@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("per_batch", [False, True])
def test_every_scheduler_steps_and_resumes_to_the_same_bits(name, per_batch, tmp_path):
    if per_batch and name == "ReduceLROnPlateau":
        return
    train, val, _ = parts()
    adam = partial(torch.optim.Adam, lr=0.02)

    def run(epochs, path=None):
        model = net()
        checkpoint = None if path is None else Checkpoint(path)
        options = dict(scheduler=SCHEDULES[name], step_per_batch=per_batch, checkpoint=checkpoint)
        history = fit(model, [train, train], optimizer=adam, val=val, epochs=epochs, **options)
        return list(history), torch.cat([p.detach().flatten() for p in model.parameters()])

    expected = run(5)
    run(2, tmp_path / "checkpoint")
    actual = run(5, tmp_path / "checkpoint")
    assert actual[0] == expected[0]
    assert torch.equal(actual[1], expected[1])


def test_the_plateau_is_that_of_the_validation_loss():
    train, val, _ = parts()
    rates = []
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    plateau = lr_scheduler.ReduceLROnPlateau(optimizer, patience=0, factor=0.5, threshold=10.0, threshold_mode="abs")
    fit(model, train, None, optimizer, 3, val=val, scheduler=plateau, on_epoch=lambda r: rates.append(plateau.best))
    assert rates[0] == pytest.approx(
        fit(net(), train, None, partial(torch.optim.SGD, lr=0.1), 1, val=val)[0]["val_loss"]
    )


def test_callbacks_history_and_csv(tmp_path):
    train, val, _ = parts()
    first, second = [], []
    history = fit(net(), train, val=val, epochs=3, on_epoch=[first.append, second.append])
    assert first == second == history
    assert isinstance(history, History)
    assert history.table["val_loss"].tolist() == history["val_loss"]
    assert history.table["epoch"].tolist() == [1, 2, 3]
    history.to_csv(tmp_path / "history.csv")
    with (tmp_path / "history.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [{name: float(value) for name, value in row.items()} for row in rows] == history
    ragged = History([{"epoch": 1, "loss": 2.0}, {"epoch": 2, "loss": 1.0, "test": 3.0}])
    assert math.isnan(ragged["test"][0])
    ragged.to_csv(tmp_path / "ragged.csv")
    assert (tmp_path / "ragged.csv").read_text().split() == ["epoch,loss,test", "1,2.0,", "2,1.0,3.0"]


def test_progress_shows_the_epochs_and_the_last_record(capsys):
    train, *_ = parts()
    fit(net(), train, epochs=3, progress=True)
    shown = capsys.readouterr()
    assert re.fullmatch(r"epochs: 3 of 3, loss [\d.]+, 0:00:\d\d, 0:00:00 left\n", shown.err)
    assert shown.out == ""
    fit(net(), train, epochs=3)
    assert capsys.readouterr().err == ""


def test_tensorboard_holds_every_number(tmp_path):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    train, val, _ = parts()
    history = fit(net(), train, val=val, epochs=3, on_epoch=TensorBoard(tmp_path))
    events = accumulator.EventAccumulator(str(tmp_path)).Reload()
    for name in ("loss", "val_loss", "val_accuracy"):
        points = events.Scalars(name)
        assert [point.step for point in points] == [1, 2, 3]
        assert [point.value for point in points] == pytest.approx(history[name], rel=1e-6)


def test_tensorboard_says_what_to_install(monkeypatch, tmp_path):
    import sys

    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(ImportError, match="expected the package tensorboard, pip install tensorboard"):
        TensorBoard(tmp_path)


def test_a_device_moves_the_model_and_the_data():
    """On a device without data the first product is where it should be."""
    model = net()
    places = []
    model.blocks[0].register_forward_pre_hook(lambda module, args: places.append(args[1].device.type))
    train, *_ = parts()
    fit(model, train, epochs=1, device="cpu")
    assert places == ["cpu"]


# ---------------------------------------------------------------- evaluate and predict


@pytest.mark.parametrize("training", [True, False])
def test_evaluate_restores_the_mode_and_takes_no_gradients(training):
    *_, test = parts()
    model = net(norm=BatchNorm, dropout=0.5).train(training)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    result = evaluate(model, test)
    assert model.training is training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    outputs = model.eval()(test.graph, test.x)[test.rows]
    assert result["loss"] == pytest.approx(nn.functional.cross_entropy(outputs, test.target).item())
    assert result["accuracy"] == pytest.approx((outputs.argmax(1) == test.target).double().mean().item())
    assert result.confusion.sum() == len(test.target)


def test_predictions_for_a_batch_equal_those_for_single_graphs():
    torch.manual_seed(0)
    graphs = [random_graph(n, 3 * n, seed=n) for n in (4, 7, 5, 9, 6)]
    for g in graphs:
        g.ndata["h"], g.edata["w"] = torch.randn(g.num_nodes(), FEATS), torch.rand(g.num_edges())
    model = net(dropout=0.5, norm=BatchNorm, readout=readout_mean)
    alone = torch.cat([model.eval()(g, g.ndata["h"], g.edata["w"]) for g in graphs])
    model.train()
    outputs = predict(model, graphs, "h", edge="w", batch_size=2)
    torch.testing.assert_close(outputs, alone)
    assert model.training
    assert not outputs.requires_grad
    torch.testing.assert_close(predict(model, graphs[3], "h", edge="w"), alone[3:4])


def test_the_guide_has_the_whole_signature():
    """Each argument of `fit` with its default, in order."""
    text = (Path(__file__).parents[2] / "docs" / "guide" / "training.md").read_text("utf-8")
    (written,) = re.findall(r"^    fit\((.*?)\)$", text, re.MULTILINE | re.DOTALL)
    parameters = inspect.signature(fit).parameters.values()
    plain = [p.replace(annotation=p.empty) for p in parameters]
    actual = str(inspect.Signature(plain)).strip("()")
    assert re.sub(r"\s+", " ", written).replace('"', "'") == actual


def test_one_way_to_predict_is_public():
    assert gnnlib.predict is gnnlib.train.predict
    assert not hasattr(gnnlib.io, "predict")
