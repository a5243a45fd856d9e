"""Runs from end to end: on a task that trains in a moment, and on a few real digits."""

import json
import os
import random
import re
import resource
import signal
from collections import Counter

import pytest
from rich.table import Table

from gnnlib._utils.documents import seal
from gnnlib.benchmarks.__main__ import main
from gnnlib.benchmarks.catalog.layers import Geometry
from gnnlib.benchmarks.errors import UsageError
from gnnlib.benchmarks.runner import run as runner
from gnnlib.benchmarks.runner.progress import Progress
from gnnlib.benchmarks.runner.request import RunRequest
from gnnlib.benchmarks.tasks import TASKS
from gnnlib.train import loop as training
from tests.benchmarks.fake_task import Fake
from tests.kills import epochs_done, figures, kills, run_job
from tests.utils.test_lock import held_by_another

ALL = [("gcn", 0), ("gcn", 1), ("mlp", 0), ("mlp", 1)]


@pytest.fixture(autouse=True)
def ran(monkeypatch):
    """The trainings of the fake task so far."""
    monkeypatch.setitem(TASKS, "fake", Fake)
    monkeypatch.setattr(Fake, "ran", [])
    return Fake.ran


@pytest.fixture
def no_report(monkeypatch):
    """Spares the seconds of drawing where the report is not the point."""
    monkeypatch.setattr(runner, "write_report", lambda folder: folder / "report.html")


FAKE = """
import runpy, sys, warnings
warnings.simplefilter("error")
warnings.simplefilter("ignore", DeprecationWarning)
sys.argv[1:] = ["run", "fake", "--out", {out!r}]
runpy.run_module("tests.benchmarks.fake_task", run_name="__main__", alter_sys=True)
"""


@pytest.mark.slow
def test_every_layer_and_seed(tmp_path, capsys, ran):
    assert main(["run", "fake", "--out", str(tmp_path), "--epochs", "3"]) == 0
    assert ran == ALL
    folder = tmp_path / "fake-epochs3"
    result = json.loads((folder / "gcn" / "result.json").read_text())
    assert result["task"] == "fake"
    assert result["arguments"] == {"epochs": 3, "limit": None, "device": "cpu"}
    assert result["seeds"] == [0, 1]
    assert result["metric"]["name"] == "test accuracy"
    assert len(result["metric"]["values"]) == 2
    assert result["metric"]["mean"] == pytest.approx(sum(result["metric"]["values"]) / 2)
    assert result["parameters"] > 0
    assert result["seconds"] == pytest.approx(sum(o["seconds"] for o in result["outcomes"].values()))
    assert all(o["seconds"] > 0 for o in result["outcomes"].values())
    assert result["curves"][0]["epoch"] == [1, 2, 3]
    assert result["versions"]["torch"]
    assert result["commit"] is None
    assert result["command"] == "python -m benchmarks run fake --epochs 3"
    assert (folder / "report.html").is_file()
    output = capsys.readouterr()
    lines = output.out.splitlines()
    assert lines[0] == "Loading fake"
    scores = [f"{result['metric']['values'][seed]:.2f}" for seed in (0, 1)]
    assert lines[1:3] == [f"GCN, seed {seed}: {scores[seed]} %" for seed in (0, 1)]
    assert [line[: line.index(":")] for line in lines[3:5]] == [
        "no graph (control), seed 0",
        "no graph (control), seed 1",
    ]
    assert lines[-1] == f"Report: {folder}/report.html"
    assert output.err == ""


def test_the_command_leaves_out_the_folders_of_this_machine(tmp_path, no_report):
    (tmp_path / "data").mkdir()
    words = ["--layers", "mlp,gin", "--seeds", "1", "--epochs", "2", "--limit", "6"]
    assert main(["run", "fake", *words, "--data", str(tmp_path / "data"), "--out", str(tmp_path), "--fresh"]) == 0
    for path in tmp_path.glob("*/*/result.json"):
        command = "python -m benchmarks run fake --layers mlp,gin --seeds 1 --epochs 2 --limit 6 --data DIR"
        assert json.loads(path.read_text())["command"] == command
        assert str(tmp_path) not in path.read_text()


def test_finished_seeds_are_not_repeated(tmp_path, no_report, capsys, ran):
    arguments = ["run", "fake", "--out", str(tmp_path)]
    assert main(arguments) == 0
    before = {path: path.read_bytes() for path in tmp_path.rglob("result.json")}
    assert main(arguments) == 0
    assert ran == ALL
    assert {path: path.read_bytes() for path in tmp_path.rglob("result*.json")} == before
    assert "done before: 4 of 4; --fresh runs them again" in capsys.readouterr().out
    assert main([*arguments, "--seeds", "3"]) == 0
    assert ran == [*ALL, ("gcn", 2), ("mlp", 2)]
    assert main([*arguments, "--layers", "gin,gcn", "--seeds", "1"]) == 0
    assert ran[6:] == [("gin", 0)]
    assert main([*arguments, "--fresh", "--layers", "gcn", "--seeds", "1"]) == 0
    assert ran[7:] == [("gcn", 0)]
    assert len(list(tmp_path.glob("fake/gcn/result*.json"))) == 2
    assert len(list(tmp_path.glob("fake/mlp/result*.json"))) == 1


def test_changed_code_or_versions_start_anew(tmp_path, no_report, monkeypatch, ran):
    arguments = ["run", "fake", "--layers", "gcn", "--seeds", "1", "--out", str(tmp_path)]
    assert main(arguments) == 0
    monkeypatch.setattr(runner, "commit", lambda: "decaf")
    assert main(arguments) == 0
    monkeypatch.setattr(runner, "versions", lambda: {"torch": "99"})
    assert main(arguments) == 0
    assert ran == [("gcn", 0)] * 3
    names = sorted(path.name for path in (tmp_path / "fake" / "gcn").iterdir())
    assert names == [
        "log-None.jsonl",
        "log-decaf.jsonl",
        "log.jsonl",
        "result-None.json",
        "result-decaf.json",
        "result.json",
    ]


def test_a_protocol_may_score_all_seeds_together(tmp_path, monkeypatch, no_report):
    """As in ten-fold cross-validation: one epoch for all folds."""
    monkeypatch.setattr(Fake, "values", lambda self, outcomes: [10.0 * seed + len(outcomes) for seed in outcomes])
    assert main(["run", "fake", "--seeds", "3", "--layers", "gcn", "--out", str(tmp_path)]) == 0
    result = json.loads((tmp_path / "fake" / "gcn" / "result.json").read_text())
    assert result["metric"]["values"] == [3.0, 13.0, 23.0]
    assert (result["metric"]["mean"], result["metric"]["std"]) == (13.0, 10.0)
    assert [result["outcomes"][seed]["score"] for seed in "012"] != [3.0, 13.0, 23.0]


@pytest.fixture
def uninterrupted(tmp_path, ran, no_report):
    assert main(["run", "fake", "--out", str(tmp_path / "whole")]) == 0
    ran.clear()
    return figures(tmp_path / "whole")


@pytest.mark.process
@pytest.mark.parametrize("place", ["train", "write"])
def test_a_killed_run_resumes(tmp_path, uninterrupted, ran, place, server):
    """Killed within the training of a seed, and within writing its result."""
    out, script = tmp_path / "killed", tmp_path / "script.py"
    script.write_text(FAKE.format(out=str(out)))
    names = ("GNNLIB_CACHE", "GIT_DIR")
    process = server.start(script, env={name: os.environ[name] for name in names} | {"FAKE_STOP": f"{place}:mlp:1"})
    done = process.wait()
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert [line.split(":")[0] for line in done.stdout.splitlines()[1:]] == [
        "GCN, seed 0",
        "GCN, seed 1",
        "no graph (control), seed 0",
    ]
    assert done.stderr == ""
    partial_run = figures(out)
    assert partial_run["fake/gcn/result.json"] == uninterrupted["fake/gcn/result.json"]
    assert partial_run["fake/mlp/result.json"]["seeds"] == [0]
    assert main(["run", "fake", "--out", str(out)]) == 0
    assert ran == [("mlp", 1)]
    assert figures(out) == uninterrupted


@pytest.mark.process
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded")  # Python 3.12, of fork
def test_a_second_run_in_the_same_folder_says_who_is_there(tmp_path, no_report, ran, capsys):
    arguments = ["run", "fake", "--out", str(tmp_path)]
    with held_by_another(tmp_path / "fake" / "lock") as child:
        assert main(arguments) == 2
        message = f"--out: expected {tmp_path}/fake to be free, got one in use by process {child} on "
        assert message in capsys.readouterr().err
        assert main([*arguments, "--epochs", "2"]) == 0, "another setting has another folder"
    assert ran == ALL
    assert main(arguments) == 0, "the other process is dead"
    lines = epochs_done(tmp_path)
    assert len(lines) == 2 * 2 * (4 + 2)
    assert max(Counter(lines).values()) == 2, "once in each folder"
    assert not list(tmp_path.rglob("lock"))


def test_an_interrupt_keeps_finished_seeds(tmp_path, uninterrupted, ran, monkeypatch, capsys):
    arguments = ["run", "fake", "--out", str(tmp_path / "stopped")]
    with monkeypatch.context() as patch:
        patch.setenv("FAKE_STOP", "interrupt:gcn:1")
        assert main(arguments) == 130
    assert "the same command continues" in capsys.readouterr().err
    assert figures(tmp_path / "stopped")["fake/gcn/result.json"]["seeds"] == [0]
    ran.clear()
    assert main(arguments) == 0
    assert ran == [("gcn", 1), ("mlp", 0), ("mlp", 1)]
    assert figures(tmp_path / "stopped") == uninterrupted


@pytest.mark.parametrize("damage", ["truncated", "other task"])
def test_a_damaged_result_is_replaced(tmp_path, uninterrupted, ran, capsys, damage):
    path = tmp_path / "whole" / "fake" / "gcn" / "result.json"
    text = path.read_text()
    other = json.dumps(seal({**json.loads(text), "task": "other"}))
    path.write_text(text[:-20] if damage == "truncated" else other)
    assert main(["run", "fake", "--out", str(tmp_path / "whole")]) == 0
    assert ran == [("gcn", 0), ("gcn", 1)]
    assert f"{path} " in capsys.readouterr().err
    assert figures(tmp_path / "whole") == uninterrupted
    assert len(list(path.parent.glob("result*.json"))) == 2


def test_a_layer_unfit_for_one_task_stops_all_before_training(tmp_path, monkeypatch, ran):
    class Other(Fake):
        name = "other"

        def load(self, options):
            super().load(options)
            self.geometry = Geometry(pos_feats=2)

    monkeypatch.setitem(TASKS, "other", Other)
    request = RunRequest(tasks=["other", "fake"], layers=["mlp", "pred-edge"], out=tmp_path / "out")
    with pytest.raises(UsageError, match="fake has no pos_feats for layer 'pred-edge'"):
        runner.run(request)
    assert ran == []
    assert not (tmp_path / "out").exists()


def test_a_terminal_shows_bars_and_time_left(tmp_path, no_report, monkeypatch, capsys):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "80")
    assert main(["run", "fake", "--out", str(tmp_path), "--layers", "mlp"]) == 0
    output = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", capsys.readouterr().out)
    assert re.search(r"fake +━+ +2/2 0:00:\d\d left 0:00:00", output), output
    assert re.search(r"no graph \(control\), seed 1 +━+ +4/4 0:00:\d\d left 0:00:00\s+loss \d\.\d{3}", output), output
    assert "control), seed 1: " not in output, "the line for each seed is for logs"
    assert "…" not in output, "all of it fits"


class Watch:
    """In place of a checkpoint: the seconds that a training has taken."""

    seconds = 0.0


@pytest.fixture
def progress(monkeypatch):
    """Of two of four trainings that are left to do."""
    monkeypatch.setenv("COLUMNS", "100")
    return Progress("fake", total=4, done=2)


def go(progress, watch, epochs, seconds_each):
    for epoch in epochs:
        watch.seconds += seconds_each
        progress.epoch({"epoch": epoch, "loss": 1.0, "validation": 50.0})


def test_remaining_time_after_the_first_epoch(progress):
    watch = Watch()
    assert progress.remaining() is None
    progress.start("GCN", 0, 10, watch)
    watch.seconds = 30.0
    assert progress.remaining_of_training() is progress.remaining() is None
    go(progress, watch, [1], 70.0)
    assert (progress.remaining_of_training(), progress.remaining()) == (900.0, 1900.0)
    assert progress.note == "loss 1.000, validation 50.0 %"
    watch.seconds += 40.0
    assert (progress.remaining_of_training(), progress.remaining()) == (860.0, 1860.0)
    watch.seconds += 4000.0
    assert progress.remaining_of_training() == 0, "an epoch that is longer than those before leaves nothing, not less"
    watch.seconds = 1000.0
    progress.finish("", Table())
    progress.start("GCN", 1, 10, Watch())
    assert progress.remaining() == 1000.0, "as long as the one before"


def test_remaining_time_of_a_resumed_training(progress):
    """The epochs before the break come in no time."""
    watch = Watch()
    watch.seconds = 500.0
    progress.start("GCN", 0, 10, watch)
    go(progress, watch, [1, 2, 3, 4, 5], 0.0)
    assert (progress.remaining_of_training(), progress.remaining()) == (500.0, 1500.0)


def test_without_a_terminal_a_line_a_minute(progress, capsys):
    watch = Watch()
    progress.start("GCN", 0, 20, watch)
    go(progress, watch, range(1, 9), 25.0)
    assert capsys.readouterr().out.splitlines() == [
        "GCN, seed 0: epoch 3 of 20, loss 1.000, validation 50.0 %, 0:07:05 left",
        "GCN, seed 0: epoch 6 of 20, loss 1.000, validation 50.0 %, 0:05:50 left",
    ]


@pytest.mark.process
def test_digits_killed_at_random_moments_give_the_same_figures(tmp_path, no_report):
    """One process does it all; others are killed from outside, and the run is finished later: the same bits."""
    words = ["digits", "--limit", "64", "--epochs", "4", "--seeds", "2", "--layers", "gcn,gat"]
    reference, killed = tmp_path / "whole", tmp_path / "killed"
    assert main(["run", *words, "--out", str(reference)]) == 0
    epochs = epochs_done(reference)
    assert len(epochs) == len(set(epochs)) == 2 * 2 * 4
    done = list(kills(run_job(words), killed, 2, len(epochs), random.Random(0)))
    assert 0 <= done[0] <= done[1] < len(epochs)
    assert main(["run", *words, "--out", str(killed)]) == 0
    assert figures(killed) == figures(reference)
    assert epochs_done(killed) == epochs


def test_a_full_disk_ends_the_run_in_one_line_and_loses_nothing(tmp_path, uninterrupted, ran, capsys):
    """The system refuses files of more than so many bytes: the log of the second layer, or its result."""
    out = tmp_path / "full"
    assert main(["run", "fake", "--out", str(out), "--layers", "gcn"]) == 0
    before, limits = figures(out), resource.getrlimit(resource.RLIMIT_FSIZE)
    capsys.readouterr()
    resource.setrlimit(resource.RLIMIT_FSIZE, (256, limits[1]))
    try:
        assert main(["run", "fake", "--out", str(out)]) == 2
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    (line,) = capsys.readouterr().err.splitlines()
    hint = "finished results are kept; the same command continues"
    assert re.fullmatch(rf"benchmarks: error: \[Errno 27\] File too large: '.*/mlp/.*'; {hint}", line)
    assert figures(out) == before
    assert main(["run", "fake", "--out", str(out)]) == 0
    mlp = "fake/mlp/result.json"
    assert figures(out) == {**before, mlp: uninterrupted[mlp]}
    assert not list(out.rglob(".*"))


@pytest.mark.slow
@pytest.mark.parametrize(("fresh", "epochs"), [([], 8), (["--fresh"], 4 + 8)])
def test_an_interrupted_training_resumes_after_its_last_epoch(tmp_path, no_report, monkeypatch, fresh, epochs):
    words = ["run", "digits", "--limit", "64", "--epochs", "8", "--layers", "gcn", "--out"]
    assert main([*words, str(tmp_path / "whole")]) == 0
    train, calls = training._train_epoch, []

    def break_once(*arguments):
        calls.append(arguments)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return train(*arguments)

    monkeypatch.setattr(training, "_train_epoch", break_once)
    assert main([*words, str(tmp_path / "broken")]) == 130
    assert sorted(path.name for path in (tmp_path / "broken").glob("*/*/*")) == ["log.jsonl", "seed-0.checkpoint"]
    assert main([*words, str(tmp_path / "broken"), *fresh]) == 0
    assert len(calls) == epochs + 1  # the fifth began twice
    assert figures(tmp_path / "broken") == figures(tmp_path / "whole")
    assert not any((tmp_path / "broken").glob("*/*/*.checkpoint"))
