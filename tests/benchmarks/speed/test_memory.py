"""The memory command: what is held by depth, in which way; a process that dies takes its own figure with it alone."""

import json
import subprocess
from types import SimpleNamespace

import pytest

from gnnlib.benchmarks.__main__ import main
from gnnlib.benchmarks.speed import memory
from gnnlib.benchmarks.speed.memory import MemoryJob, MemoryRequest, measure, run


@pytest.fixture
def figures(monkeypatch):
    """As if processes had measured: 3 MB a layer plain, dead at 1000 layers."""

    def process(words, **_):
        task = json.loads(words[-1])
        if task["way"] == "plain" and task["depth"] == 1000:
            return subprocess.CompletedProcess(words, -9, "")
        held = 3e6 * task["depth"] ** {"plain": 1.0, "checkpointed": 0.5, "reversible": 0.0}[task["way"]]
        row = {**task, "folder": None, "bytes": held, "seconds": 0.5, "losses": [2.3, 2.0]}
        return subprocess.CompletedProcess(words, 0, json.dumps(row))

    monkeypatch.setattr(memory, "subprocess", SimpleNamespace(run=process, PIPE=subprocess.PIPE))


def test_a_table_and_a_file_without_those_that_died(figures, tmp_path, capsys):
    assert main(["memory", "--depths", "10,100,1000", "--out", str(tmp_path)]) == 0
    said = capsys.readouterr()
    assert "plain, 1000 layers: the process ended with status -9; out of memory, perhaps" in said.err
    lines = [line.split() for line in said.out.splitlines()]
    assert ["plain", "30,", "0.50", "300,", "0.50", "1.00"] in lines
    assert ["checkpointed", "9,", "0.50", "30,", "0.50", "95,", "0.50", "0.50"] in lines
    assert ["reversible", "3,", "0.50", "3,", "0.50", "3,", "0.50", "0.00"] in lines
    document = json.loads((tmp_path / "memory-digits" / "memory.json").read_text())
    assert [(row["way"], row["depth"]) for row in document["rows"]][:3] == [
        ("plain", 10),
        ("plain", 100),
        ("checkpointed", 10),
    ]


def test_a_later_run_keeps_what_it_does_not_measure(figures, tmp_path):
    def held(*words):
        main(["memory", *words, "--out", str(tmp_path)])
        return [(row["way"], row["depth"], row["bytes"]) for row in json.loads(path.read_text())["rows"]]

    path = tmp_path / "memory-digits" / "memory.json"
    first = held("--depths", "10", "--ways", "plain,reversible")
    assert first == [("plain", 10, 3e7), ("reversible", 10, 3e6)]
    assert held("--depths", "4", "--ways", "plain") == [*first, ("plain", 4, 1.2e7)]
    text = path.read_text()
    path.write_text(text.replace("30000000.0", "1.0"))
    assert held("--depths", "10", "--ways", "plain") == [*first, ("plain", 4, 1.2e7)], "measured anew"


def test_a_file_of_other_conditions_or_a_damaged_one_is_kept_aside(figures, tmp_path, capsys):
    folder = tmp_path / "memory-digits"
    words = ["memory", "--depths", "10", "--ways", "plain", "--out", str(tmp_path)]
    main(words)
    main([*words, "--width", "32"])
    assert "memory.json has other width; kept as memory-1.json, starting anew" in capsys.readouterr().err
    assert [json.loads((folder / name).read_text())["width"] for name in ("memory-1.json", "memory.json")] == [64, 32]
    cut = (folder / "memory.json").read_text()[:-20]
    (folder / "memory.json").write_text(cut)
    main([*words, "--width", "32"])
    assert "memory.json is damaged (" in capsys.readouterr().err
    assert (folder / "memory-2.json").read_text() == cut
    assert len(json.loads((folder / "memory.json").read_text())["rows"]) == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["cora", "--ways", "paged"], "--ways: expected some of plain, checkpointed, reversible, got 'paged'"),
        (["mars"], "unknown data 'mars'; expected one of: digits, cora, citeseer, pubmed"),
    ],
)
def test_bad_input(figures, words, said, tmp_path, capsys):
    assert main(["memory", *words, "--out", str(tmp_path)]) == 2
    assert said in capsys.readouterr().err


def test_a_real_process_measures_and_trains(tmp_path):
    path = run(MemoryRequest(depths=[40], ways=["reversible"], width=32, out=tmp_path))
    (row,) = json.loads(path.read_text())["rows"]
    outputs = 40 * 1797 * 32 * 4  # bytes of all layers, which a plain net would keep
    assert 0 < row["bytes"] < outputs / 2
    assert row["losses"][1] < row["losses"][0]


def test_the_same_losses_however_it_is_held():
    plain, checkpointed = (
        measure(MemoryJob("digits", None, way, 6, 16))["losses"] for way in ("plain", "checkpointed")
    )
    assert plain == checkpointed
