"""A graph on two hosts, which are one machine: cut, served, trained on; and what happens when something is missing."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from torch import nn

from gnnlib import BatchNorm, SAGEConv, Stack
from gnnlib.benchmarks.__main__ import main
from gnnlib.benchmarks.runner import hosts
from gnnlib.benchmarks.runner.hosts import _host_number, _started, _wait
from gnnlib.large.partitions import partition_graph
from gnnlib.testing.graphs import communities
from gnnlib.train.loop import Batch, fit, outputs_and_targets

ROOT = Path(__file__).parents[3]


def full_batch(graph, split):
    """The test accuracy of the same network, %."""
    model = Stack.build(SAGEConv, 4, 32, 4, num_layers=3, norm=BatchNorm, dropout=0.5)
    train, test = (
        Batch(graph, graph.ndata["feat"], graph.ndata["label"][i], rows=i) for i in (split["train"], split["test"])
    )
    fit(model, lambda: [train], nn.functional.cross_entropy, torch.optim.Adam(model.parameters(), lr=0.01), epochs=30)
    outputs, target = outputs_and_targets(model, [test])
    return 100 * (outputs.argmax(-1) == target).double().mean().item()


@pytest.mark.process
def test_two_hosts_train_on_a_partitioned_graph(tmp_path, monkeypatch):
    """Takes 15 s on two cores: many imports, a meeting. Rows of another host's shared memory would be other rows."""
    monkeypatch.delenv("GIT_DIR")
    graph, split = communities(1200, noise=0.4)
    partition_graph(graph, split, 2, tmp_path / "parts", name="communities")
    command = [sys.executable, "-m", "benchmarks", "host", "--addresses", "10.77.0.1,10.77.0.2", tmp_path / "parts"]
    options = ["--epochs", "8", "--out", tmp_path / "out"]
    alone = ["timeout", "900", "tests/two_hosts.sh"]  # which takes its hosts down when told to stop
    done = subprocess.run([*alone, *map(str, command + options)], cwd=ROOT, capture_output=True, text=True)
    if done.returncode == 77:
        pytest.skip(done.stderr.strip())
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Report: ") == 1
    [path] = (tmp_path / "out").glob("partitioned-communities-parts2-epochs8-processes2/sage/result.json")
    result = json.loads(path.read_text())
    assert result["metric"]["mean"] == pytest.approx(full_batch(graph, split), abs=0.5)
    assert result["metric"]["mean"] > 99


@pytest.mark.process
@pytest.mark.parametrize(
    ("server", "trainers", "status"),
    [("sleep 60", ["true", "sleep 0.3"], 0), ("sleep 60", ["sleep 60", "exit 3"], 3), ("exit 1", ["sleep 60"], 1)],
    ids=["all-is-well", "a-trainer-dies", "the-server-dies"],
)
def test_processes_end_when_one_fails(monkeypatch, capsys, server, trainers, status):
    monkeypatch.setattr(hosts, "GRACE", 0.2)
    began = time.monotonic()
    with _started([(["sh", "-c", words], {}) for words in (server, *trainers)]) as processes:
        assert _wait(*processes) == status
    assert time.monotonic() - began < 30
    assert all(process.returncode is not None for process in processes)
    assert bool(status) == ("a process ended early" in capsys.readouterr().err)


def test_host_number_is_that_of_its_address():
    assert _host_number(["203.0.113.7", "127.0.0.1"]) == 1


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["partition", "nowhere", "--parts", "2", "--out", "{new}"], "unknown task 'nowhere'"),
        (["partition", "digits", "--parts", "2", "--out", "{new}"], "expected a task on the nodes of one large graph"),
        (["partition", "planted", "--parts", "2", "--out", "{parts}"], "expected a folder without parts"),
        (["host", "--addresses", "127.0.0.1", "{new}"], "expected one partitioned graph in {new}"),
        (["host", "--addresses", "127.0.0.1", "{parts}"], "expected one for each of 2 parts, got 1"),
        (["host", "--addresses", "203.0.113.7,203.0.113.8", "{parts}"], "got 203.0.113.7, 203.0.113.8"),
        (["run", "partitioned", "--out", "{new}"], "--data: expected the folder that 'partition' wrote, got none"),
    ],
)
def test_invalid_arguments_are_refused_first(tmp_path, capsys, words, expected):
    parts, new = tmp_path / "parts", tmp_path / "new"
    parts.mkdir()
    (parts / "ours.json").write_text(json.dumps({"graph_name": "ours", "num_parts": 2}))
    assert main([word.format(parts=parts, new=new) for word in words]) == 2
    assert expected.format(new=new) in capsys.readouterr().err
