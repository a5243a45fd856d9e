"""Tuned depth studies: the search space, trials and pruning, resuming, and the part of the data that is not read."""

import json
import math
import re
import sys

import numpy as np
import pytest
import torch

from gnnlib.benchmarks.__main__ import main
from gnnlib.benchmarks.depth import REMEDIES, Cell, TrainingSettings, depth_study
from gnnlib.benchmarks.depth.cells import build_cell, run_cell
from gnnlib.benchmarks.depth.command import DepthRequest
from gnnlib.benchmarks.depth.space import Choice, common_params, declared_space, search_space
from gnnlib.benchmarks.depth.study import Study
from gnnlib.benchmarks.depth.tuning import SEED, Trial, _Progress, best_trial, run_trial, rungs
from gnnlib.benchmarks.errors import UsageError
from gnnlib.nn.reparametrize import IdentityMapping
from tests.benchmarks.depth.test_depth import DATA

pytest.importorskip("optuna", reason="optuna is not installed")

SETTINGS = TrainingSettings(width=8, epochs=8, patience=4)
SMALL = dict(convs=["gcn"], remedies=["none", "gcnii"], depths=[2], seeds=2, settings=SETTINGS, tune=3)


def without_times(document):
    """The trials and figures of a study, without what differs between two runs of it."""
    rows = [{name: row[name] for name in ("test", "validation", "params")} for row in document["rows"]]
    trials = [{**trial, "seconds": 0} for row in document["rows"] for trial in row["trials"]]
    return json.loads(json.dumps([rows, trials]))


@pytest.fixture(scope="module")
def document():
    return depth_study(*DATA[:4], **SMALL)


def is_in(part, value):
    return value in part.values if isinstance(part, Choice) else part.low <= value <= part.high


# the space


@pytest.mark.parametrize("settings", [TrainingSettings(), TrainingSettings(lr=1.0, width=1, weight_decay=0, drop=0.95)])
def test_common_params_are_in_the_space(settings):
    for remedy in REMEDIES:
        cell = Cell("gat", remedy, 4, 0)
        space, params = search_space(cell, settings), common_params(cell, settings)
        assert space.items() <= declared_space(settings).items()
        assert space.keys() == params.keys() >= {"lr", "width", "weight_decay"}
        assert all(is_in(space[name], value) for name, value in params.items()), remedy


def test_space_of_remedies():
    def names(remedy):
        return search_space(Cell("gcn", remedy, 4, 0), SETTINGS).keys() - {"lr", "width", "weight_decay"}

    assert names("none") == names("dagnn") == names("skipinit") == names("batchnorm") == {"dropout"}
    assert names("batchnorm+linear-residual") == {"dropout", "norm"}
    assert names("gcnii") == {"dropout", "block_decay", "alpha", "lam"}
    assert names("appnp") == {"dropout", "alpha"}
    assert names("dropnode") == {"drop"}
    assert names("skipnode") == {"dropout", "drop"}


def test_params_change_the_model():
    params = {"width": 4, "dropout": 0.3, "weight_decay": 0.1, "block_decay": 20, "alpha": 0.25, "lam": 1.0}
    plan, model, _ = build_cell(Cell("gcn", "gcnii", 3, 0), DATA, SETTINGS, params)
    assert plan.decay == {"*": 0.1, "blocks.*": 2.0}
    for block in model.blocks:
        assert (block.skip.alpha, block.skip.lam, block.skip.weight.shape, block.dropout.p) == (0.25, 1.0, (4, 4), 0.3)
    _, model, _ = build_cell(Cell("gat", "gcnii", 3, 0), DATA, SETTINGS, params)
    mappings = [module.beta for module in model.modules() if isinstance(module, IdentityMapping)]
    assert mappings == [pytest.approx(math.log(1.0 / layer + 1)) for layer in (1, 2, 3)]
    assert {block.skip.alpha for block in model.blocks} == {0.25}
    _, model, _ = build_cell(Cell("gcn", "appnp", 3, 0), DATA, SETTINGS, params)
    assert model.readout.alpha == 0.25
    remedy, mapping = "batchnorm+residual", {"before": False, "after": True}
    for norm, after in mapping.items():
        _, model, _ = build_cell(Cell("gcn", remedy, 3, 0), DATA, SETTINGS, {"norm": norm})
        assert model.blocks[0].norm_after_skip == after


# one trial


@pytest.mark.parametrize("remedy", ["none", "dropout+decay", "gcnii+decay-parts", "batchnorm+residual+norm-after"])
def test_first_trial_is_the_untuned_cell(one_thread, remedy):
    trial = run_trial(Trial("gat", remedy, 2, 0), (), DATA, SETTINGS)
    outcome = run_cell(Cell("gat", remedy, 2, SEED), DATA, SETTINGS)
    assert trial["state"] == "complete"
    assert (round(trial["validation"], 2), trial["epochs"]) == (outcome["val"], outcome["epochs"])


def test_trials_are_functions_of_their_number(one_thread):
    first = run_trial(Trial("gcn", "none", 2, 0), (), DATA, SETTINGS)
    second, again, third = (run_trial(Trial("gcn", "none", 2, n), [first] * n, DATA, SETTINGS) for n in (1, 1, 2))
    assert second["params"] == again["params"] != third["params"]
    other = run_trial(Trial("gcn", "none", 3, 1), [first], DATA, SETTINGS)
    assert other["params"] != second["params"]


def test_diverged_trial_is_no_winner(one_thread):
    failed = run_trial(Trial("gin", "none", 8, 0), (), DATA, SETTINGS._replace(lr=1e30))
    assert (failed["state"], failed["validation"]) == ("failed", None)
    json.dumps(failed, allow_nan=False)
    failed["params"]["lr"] = SETTINGS.lr
    after = run_trial(Trial("gin", "none", 8, 1), [failed], DATA, SETTINGS)
    assert after["state"] == "complete", "there is no median"
    assert best_trial([failed, after]) is after
    assert best_trial([failed, failed]) is failed


def test_pruning_below_the_median_of_complete_trials():
    """On random curves, as numpy has the median."""
    import optuna

    random = np.random.default_rng(0)
    steps = rungs(16)
    curves = np.maximum.accumulate(random.random((40, 16)), axis=1)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction="maximize", pruner=optuna.pruners.MedianPruner(1, 0))
    complete, pruned = [], 0
    for curve in curves:
        progress = _Progress(study.ask(), steps)
        below = [step for step in steps if complete and curve[step - 1] < np.median([c[step - 1] for c in complete])]
        try:
            for value in curve:
                progress({"validation": value})
        except optuna.TrialPruned:
            assert progress.epochs == below[0]
            study.tell(progress.draw, state=optuna.trial.TrialState.PRUNED)
            pruned += 1
        else:
            assert not below
            study.tell(progress.draw, curve.max())
            complete.append(curve)
        assert progress.values == [(step, curve[step - 1]) for step in steps if step <= progress.epochs]
    assert 5 < pruned < 35


def test_best_trial():
    trials = [
        {"state": "complete", "validation": 80.0, "loss": 1.0},
        {"state": "pruned", "validation": None, "loss": None},
        {"state": "complete", "validation": 81.0, "loss": 1.0},
        {"state": "complete", "validation": 81.0, "loss": 0.5},
    ]
    assert best_trial(trials) is trials[3]


# studies


def test_tuned_study(document):
    assert document["tuning"]["trials"] == 3
    for row in document["rows"]:
        assert len(row["trials"]) == 3
        assert row["params"] == best_trial(row["trials"])["params"]
        assert row["trials"][0]["params"] == common_params(Cell("gcn", row["remedy"], 2, 0), SETTINGS)
        outcome = run_cell(Cell("gcn", row["remedy"], 2, 1), DATA, SETTINGS, row["params"])
        assert (outcome["test"], outcome["val"]) == (row["test"][1], row["validation"][1])


@pytest.mark.slow
def test_tuning_does_not_read_test_labels(document):
    label = torch.where(DATA.masks["test"], (DATA.label + 1) % 4, DATA.label)
    other = depth_study(*DATA._replace(label=label)[:4], **SMALL)
    assert without_times(other)[1] == without_times(document)[1]
    for row, before in zip(other["rows"], document["rows"]):
        assert (row["params"], row["validation"]) == (before["params"], before["validation"])
        assert row["test"] != before["test"]


@pytest.mark.slow
def test_stopped_tuning_resumes_with_the_same_trials(tmp_path, document, monkeypatch):
    class Stop(Exception):
        pass

    def stop(trial, outcome):
        if trial.number == 1:
            raise Stop

    def study():
        cells = [Cell("gcn", remedy, 2, seed) for remedy in SMALL["remedies"] for seed in range(2)]
        return Study(DATA, cells, SETTINGS, tune=3, out=tmp_path)

    with pytest.raises(Stop):
        study().run(on_trial=stop)
    path = tmp_path / "trials.jsonl"
    path.write_text(path.read_text()[:-20])  # the last line is cut off
    assert len(study().tuner.journal.entries) == 1
    numbers = []
    monkeypatch.setattr("gnnlib.benchmarks.depth.report.write_report", lambda folder: None)
    resumed = study().run(on_trial=lambda trial, outcome: numbers.append(trial.number))
    assert numbers == [1, 2, 0, 1, 2]
    assert without_times(resumed) == without_times(document)
    for name in ("trials.jsonl", "cells.jsonl"):
        (tmp_path / name).unlink()
    assert not study().pending, "all is in results.json"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))
    (tmp_path / "results.json").unlink()
    assert {cell.remedy for cell in study().pending} == {"gcnii"}, "whose last trial is lost"


def test_journal_of_another_space(tmp_path, capsys):
    cells = [Cell("gcn", "none", 2, 0)]
    Study(DATA, cells, SETTINGS, tune=2, out=tmp_path)
    Study(DATA, cells, SETTINGS, tune=3, out=tmp_path)
    assert "trials.jsonl has other tuning; kept as trials-1.jsonl, starting again" in capsys.readouterr().err
    Study(DATA, cells, SETTINGS, out=tmp_path)
    assert "cells.jsonl has other tuning; kept as cells-2.jsonl" in capsys.readouterr().err


@pytest.mark.slow
def test_report_of_a_tuned_study(tmp_path, document):
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    from gnnlib.benchmarks.depth.report import write_report, write_results

    write_results(document, tmp_path)
    page = write_report(tmp_path).read_text()
    assert "Depth on custom, tuned" in page
    assert "tuned on validation data: 3 trials for each cell" in page
    assert re.search(r'title="[\d.]+ ± [\d.]+ % \(2 seeds, tuned: lr [\d.e-]+, width \d', page)
    trials = [trial for row in document["rows"] for trial in row["trials"]]
    pruned, epochs = sum(trial["state"] == "pruned" for trial in trials), sum(trial["epochs"] for trial in trials)
    costs = "".join(f'<td class="right">{value}</td>' for value in (6, pruned, 0, epochs))
    assert f'<th scope="row">all</th>{costs}' in page
    assert {"gcn-budget-curves.png", "gcn-accuracy-curves.png"} <= {
        path.name for path in (tmp_path / "plots").iterdir()
    }


@pytest.mark.process
def test_processes_give_the_same_trials(document, preloaded):
    assert without_times(depth_study(*DATA[:4], **SMALL, jobs=2)) == without_times(document)


# errors


def test_errors_of_tuning(monkeypatch):
    monkeypatch.setattr("gnnlib.benchmarks.depth.tuning.run_trial", lambda *args: pytest.fail("a training began"))
    with pytest.raises(UsageError, match="tune: expected 1 trial or more, got 0"):
        depth_study(*DATA[:4], **SMALL | {"tune": 0})
    parts = {part: mask for part, mask in DATA.masks.items() if part != "val"}
    with pytest.raises(ValueError, match="masks: expected train, val, test, got train, test"):
        depth_study(*DATA._replace(masks=parts)[:4], **SMALL)
    label = torch.where(DATA.masks["val"], 0, DATA.label % 2)
    with pytest.raises(
        ValueError, match="expected validation labels of more than one value for the roc_auc, got 12 equal"
    ):
        depth_study(*DATA._replace(label=label)[:4], **SMALL, metric="roc_auc")
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(ImportError, match=r"tuning needs optuna: pip install 'gnnlib\[bench\]'"):
        depth_study(*DATA[:4], **SMALL)


def test_option(capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["depth", "--tune", "0"])
    assert "argument --tune: expected 1 or more, got 0" in capsys.readouterr().err
    request = DepthRequest("cora", tune=4, epochs=5)
    assert request.command() == "python -m benchmarks depth cora --epochs 5 --tune 4"
    assert request.path.name == "depth-cora-epochs5-tune4"
