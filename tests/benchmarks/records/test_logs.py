"""The log of a run: a line an epoch, each once, whatever was killed when."""

import json
import sys
from types import ModuleType

import pytest

from gnnlib.benchmarks.errors import UsageError
from gnnlib.benchmarks.records.logs import Log, check_tensorboard


def record(epoch, loss=0.5):
    return {"epoch": epoch, "loss": loss / epoch, "validation": 10.0 * epoch}


def lines(folder):
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def run(folder, seed, epochs, **options):
    log = Log(folder, seed)
    for epoch in epochs:
        log(record(epoch, **options))


def test_a_line_for_each_epoch_of_each_seed_as_it_ends(tmp_path):
    log = Log(tmp_path / "gcn", 3)
    log(record(1))
    (line,) = lines(tmp_path / "gcn")
    when = line.pop("when")
    assert line == {"seed": 3, "epoch": 1, "loss": 0.5, "validation": 10.0}
    assert when.endswith("+00:00")
    run(tmp_path / "gcn", 4, [1, 2])
    assert [(line["seed"], line["epoch"]) for line in lines(tmp_path / "gcn")] == [(3, 1), (4, 1), (4, 2)]


def test_a_resumed_training_keeps_earlier_lines(tmp_path):
    run(tmp_path, 0, [1, 2])
    run(tmp_path, 1, [1, 2, 3])
    path = tmp_path / "log.jsonl"
    path.write_text(path.read_text().replace('"when": "2', '"when": "1'))  # a thousand years ago
    before = lines(tmp_path)
    run(tmp_path, 1, [1, 2, 3, 4])
    after = lines(tmp_path)
    assert after[:5] == before
    assert (after[5]["seed"], after[5]["epoch"], after[5]["when"][0]) == (1, 4, "2")


def test_a_new_training_replaces_lines(tmp_path):
    run(tmp_path, 0, [1, 2])
    run(tmp_path, 1, [1, 2, 3])
    run(tmp_path, 0, [1], loss=0.25)
    assert [(line["seed"], line["epoch"], line["loss"]) for line in lines(tmp_path)][-1] == (0, 1, 0.25)
    assert sum(line["seed"] == 0 for line in lines(tmp_path)) == 1


@pytest.mark.parametrize("ending", ['{"seed": 0, "epo', "\x00\x00", "[1, 2]\n", "7\n"])
def test_a_truncated_line_is_dropped(tmp_path, ending):
    run(tmp_path, 0, [1, 2])
    with (tmp_path / "log.jsonl").open("a") as file:
        file.write(ending)
    run(tmp_path, 0, [1, 2, 3])
    assert [line["epoch"] for line in lines(tmp_path)] == [1, 2, 3]


def test_curves_for_tensorboard(tmp_path, monkeypatch):
    written = []

    class SummaryWriter:
        def __init__(self, folder):
            self.folder = folder

        def add_scalar(self, name, value, step):
            written.append((name, value, step))

        def flush(self):
            written.append(self.folder)

    module = ModuleType("torch.utils.tensorboard")
    module.SummaryWriter = SummaryWriter
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", module)
    check_tensorboard()
    folder = tmp_path / "tensorboard" / "seed-2"
    folder.mkdir(parents=True)
    (folder / "events.out.of.before").touch()
    Log(tmp_path, 2, curves=True)(record(4))
    assert written == [("epoch", 4, 4), ("loss", 0.125, 4), ("validation", 40.0, 4), str(folder)]
    assert not any(folder.iterdir()), "a training that goes on gives all of its epochs again"


def test_where_tensorboard_is_not_installed(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(UsageError, match="--tensorboard: expected tensorboard to be installed"):
        check_tensorboard()
