"""The command ``memory``: figures by depth; a process that dies loses only its own figure."""

import json
import subprocess
from types import SimpleNamespace

import pytest

from gnnlib._utils.documents import seal
from gnnlib.benchmarks.__main__ import main
from gnnlib.benchmarks.speed import memory
from gnnlib.benchmarks.speed.memory import MemoryJob, MemoryRequest, measure, run


@pytest.fixture
def figures(monkeypatch):
    """Replaces the processes: 3 MB for each plain layer, out of memory at 1000 layers."""

    def process(words, **_):
        job = json.loads(words[-1])
        if job["way"] == "plain" and job["depth"] == 1000:
            return subprocess.CompletedProcess(words, -9, "")
        size = 3e6 * job["depth"] ** {"plain": 1.0, "checkpointed": 0.5, "reversible": 0.0}[job["way"]]
        row = {**job, "folder": None, "bytes": size, "seconds": 0.5, "losses": [2.3, 2.0]}
        return subprocess.CompletedProcess(words, 0, json.dumps(row))

    monkeypatch.setattr(memory, "subprocess", SimpleNamespace(run=process, PIPE=subprocess.PIPE))


def test_table_and_file_lack_failed_processes(figures, tmp_path, capsys):
    assert main(["memory", "--depths", "10,100,1000", "--out", str(tmp_path)]) == 0
    captured = capsys.readouterr()
    assert "plain, 1000 layers: the process ended with status -9; out of memory, perhaps" in captured.err
    lines = [line.split() for line in captured.out.splitlines()]
    assert ["plain", "30,", "0.50", "300,", "0.50", "1.00"] in lines
    assert ["checkpointed", "9,", "0.50", "30,", "0.50", "95,", "0.50", "0.50"] in lines
    assert ["reversible", "3,", "0.50", "3,", "0.50", "3,", "0.50", "0.00"] in lines
    document = json.loads((tmp_path / "memory-digits" / "memory.json").read_text())
    assert [(row["way"], row["depth"]) for row in document["rows"]][:3] == [
        ("plain", 10),
        ("plain", 100),
        ("checkpointed", 10),
    ]


def test_later_run_keeps_other_rows(figures, tmp_path):
    def rows(*words):
        main(["memory", *words, "--out", str(tmp_path)])
        return [(row["way"], row["depth"], row["bytes"]) for row in json.loads(path.read_text())["rows"]]

    path = tmp_path / "memory-digits" / "memory.json"
    first = rows("--depths", "10", "--ways", "plain,reversible")
    assert first == [("plain", 10, 3e7), ("reversible", 10, 3e6)]
    assert rows("--depths", "4", "--ways", "plain") == [*first, ("plain", 4, 1.2e7)]
    text = path.read_text()
    path.write_text(json.dumps(seal(json.loads(text.replace("30000000.0", "1.0")))))
    assert rows("--depths", "10", "--ways", "plain") == [*first, ("plain", 4, 1.2e7)], "measured again"


def test_file_of_other_conditions_or_damaged_is_set_aside(figures, tmp_path, capsys):
    folder = tmp_path / "memory-digits"
    words = ["memory", "--depths", "10", "--ways", "plain", "--out", str(tmp_path)]
    main(words)
    main([*words, "--width", "32"])
    assert "memory.json has other width; kept as memory-1.json, starting again" in capsys.readouterr().err
    assert [json.loads((folder / name).read_text())["width"] for name in ("memory-1.json", "memory.json")] == [64, 32]
    cut = (folder / "memory.json").read_text()[:-20]
    (folder / "memory.json").write_text(cut)
    main([*words, "--width", "32"])
    assert "memory.json is damaged (" in capsys.readouterr().err
    assert (folder / "memory-2.json").read_text() == cut
    assert len(json.loads((folder / "memory.json").read_text())["rows"]) == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["cora", "--ways", "paged"], "--ways: expected some of plain, checkpointed, reversible, got 'paged'"),
        (["mars"], "unknown data 'mars'; expected one of: digits, cora, citeseer, pubmed"),
    ],
)
def test_invalid_arguments(figures, words, message, tmp_path, capsys):
    assert main(["memory", *words, "--out", str(tmp_path)]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.process
def test_process_measures_and_trains(tmp_path):
    path = run(MemoryRequest(depths=[40], ways=["reversible"], width=32, out=tmp_path))
    (row,) = json.loads(path.read_text())["rows"]
    outputs = 40 * 1797 * 32 * 4  # bytes of all layers, which a plain net would keep
    assert 0 < row["bytes"] < outputs / 2
    assert row["losses"][1] < row["losses"][0]


@pytest.mark.slow
def test_checkpointed_losses_equal_plain_losses():
    plain, checkpointed = (
        measure(MemoryJob("digits", None, way, 6, 16))["losses"] for way in ("plain", "checkpointed")
    )
    assert plain == checkpointed
