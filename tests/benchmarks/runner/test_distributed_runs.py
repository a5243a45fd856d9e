"""Runs of several processes: what they write and say, what is left when one dies, what is refused, the speed-up."""

import io
import json
import os
from contextlib import nullcontext, redirect_stderr, redirect_stdout

import pytest
import torch

from gnnlib._platform.dgl import HAS_DGL
from gnnlib.benchmarks.__main__ import main
from gnnlib.benchmarks.catalog.layers import choices
from gnnlib.benchmarks.errors import UsageError
from gnnlib.benchmarks.runner import request, scaling
from gnnlib.benchmarks.runner import run as runner
from gnnlib.benchmarks.runner.progress import Progress
from gnnlib.benchmarks.runner.request import RunRequest, check
from gnnlib.benchmarks.tasks import TASKS, Options, links
from gnnlib.benchmarks.tasks.link_data import of_link_split
from gnnlib.benchmarks.tasks.molecules import MUTAG
from gnnlib.benchmarks.tasks.nodes import Cora
from gnnlib.train.distributed import rank
from tests.processes import forked, needs_fork

pytestmark = needs_fork


@pytest.fixture
def runs(twins, tmp_path, monkeypatch):
    """``runs(number, out)``: a short run by so many processes; status, output and errors of each."""
    monkeypatch.setattr(MUTAG, "steps", 4)
    monkeypatch.setattr(runner, "write_report", lambda folder: folder / "report.html")  # takes longer than all else
    words = ["run", "mutag", "--data", str(twins.mutag()), "--seeds", "1", "--epochs", "4"]

    def command(out):
        with redirect_stdout(io.StringIO()) as output, redirect_stderr(io.StringIO()) as errors:
            return main([*words, "--out", str(out)]), output.getvalue(), errors.getvalue()

    return lambda number, out: forked(lambda: command(out), tmp_path, number, group=nullcontext)


def result(out):
    [path] = out.glob("*/gin/result.json")
    return path.parent.parent.name, json.loads(path.read_text())


def test_two_processes_equal_one_and_rank_0_prints(runs, tmp_path):
    [(status, _, _)] = runs(1, tmp_path / "one")
    (first, output, wrong), (second, silent, _) = runs(2, tmp_path / "two")
    assert (status, first, second) == (0, 0, 0), wrong
    assert "Report: " in output
    assert silent == ""
    (_, one), (name, two) = result(tmp_path / "one"), result(tmp_path / "two")
    assert name == "mutag-epochs4-processes2"
    assert two["arguments"] == {**one["arguments"], "processes": 2}
    assert two["command"].startswith("torchrun --nproc-per-node 2 -m benchmarks run mutag ")
    assert two["curves"][0]["loss"] == pytest.approx(one["curves"][0]["loss"], abs=1e-3)


def test_a_run_resumes_after_a_process_died(runs, tmp_path, monkeypatch):
    runs(2, tmp_path / "whole")

    def dies(self, record):
        if rank() == 1 and record["epoch"] == 2:
            torch.save("dead", tmp_path / "1.pt")
            os._exit(1)

    with monkeypatch.context() as patch:
        patch.setattr(Progress, "epoch", dies)
        (status, _, wrong), _ = runs(2, tmp_path / "parts")
    assert status == 2
    assert wrong.splitlines()[-1] == (
        "benchmarks: error: process 0 of 2: another process has ended; finished work is kept, "
        "and the same command resumes from it"
    )
    assert list((tmp_path / "parts").glob("*/gin/*.checkpoint"))
    (status, _, _), _ = runs(2, tmp_path / "parts")
    assert status == 0
    assert result(tmp_path / "parts")[1]["curves"] == result(tmp_path / "whole")[1]["curves"]


@pytest.mark.parametrize("options", [{}, {"mode": "sampled"}])
def test_links_in_two_processes(tmp_path, options):
    """The full mode takes the steps of one process (by SGD: Adam enlarges the rounding of gradients that are nearly 0).
    The sampled one has other samples."""
    if options and not HAS_DGL:
        pytest.skip("needs DGL: its sampler")

    def train():
        task, records = TASKS["links-planted"](), []
        task.load(Options(limit=150, **options))
        outcome = task.run(choices(task.extra_layers)["sage"], 0, Options(epochs=2, **options), records.append)
        return outcome.score, [record["loss"] for record in records]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(links.LinksPlanted, "batch_size", 64)
        patch.setattr(torch.optim, "Adam", lambda groups, lr: torch.optim.SGD(groups, lr=0.5))
        patch.setattr(links, "of_link_split", lambda graph, seed, _: of_link_split(graph, seed, "rocauc"))
        [(score, losses)] = forked(train, tmp_path, 1)
        (first, losses_of_first), second = forked(train, tmp_path, 2)
    assert (first, losses_of_first) == second
    if not options:
        assert losses_of_first == pytest.approx(losses, abs=1e-5)
        assert first == pytest.approx(score, abs=0.1)
    assert losses_of_first[-1] < losses_of_first[0]


def test_autoencoders_refuse_processes(twins, monkeypatch):
    monkeypatch.setattr(links, "world_size", lambda: 2)
    with pytest.raises(UsageError, match="--negatives all trains on everything at once: expected one process, got 2"):
        TASKS["links-cora"]().load(Options(data=twins.planetoid()))


def test_tasks_without_shards_refuse_processes(monkeypatch):
    monkeypatch.setattr(request, "world_size", lambda: 2)
    with pytest.raises(UsageError, match="cora trains on everything at once: expected one process, got 2"):
        check(RunRequest(tasks=["cora"]), [Cora()])


def test_speedup_is_relative_to_one_thread(tmp_path, monkeypatch, capsys):
    seconds = {(1, 1): 12.0, (1, 2): 8.0, (2, 1): 6.0}

    def train(request, processes, threads):
        assert request.arguments == ["--epochs", "2"]
        taken = seconds[processes, threads]
        return {"seconds": taken, "curves": [{"loss": [0.7, 0.5]}], "metric": {"mean": 90.0}}

    monkeypatch.setattr(scaling, "_train", train)
    assert main(["scaling", "--out", str(tmp_path), "mutag", "--epochs", "2"]) == 0
    rows = json.loads((tmp_path / "scaling-mutag" / "scaling.json").read_text())["rows"]
    assert [(row["processes"], row["threads"], row["speedup"]) for row in rows] == [
        (1, 1, 1.0),
        (1, 2, 1.5),
        (2, 1, 2.0),
    ]
    assert "scaling.json" in capsys.readouterr().out
    assert main(["scaling", "--out", str(tmp_path), "cora"]) == 2
    assert "expected a task whose batches can be shared, got cora" in capsys.readouterr().err
