"""Results on disk: what is in them, that they are whole at any moment, and when a finished seed counts."""

import doctest
import json
import os
import random
import re
import subprocess
import threading
from datetime import datetime, timedelta, timezone
from pathlib import Path

import numpy as np
import pytest

from gnnlib._utils.documents import is_sealed, seal
from gnnlib.benchmarks.metrics import mean_std
from gnnlib.benchmarks.records import results
from gnnlib.benchmarks.records.results import Outcome, ResultStore

HEADER = {
    "task": "digits",
    "layer": "gcn",
    "title": "GCN",
    "arguments": {"epochs": None, "limit": None, "device": "cpu"},
    "metric": {"name": "test accuracy", "unit": "%", "higher_is_better": True},
    "published": None,
    "versions": {"torch": "2.13.0", "dgl": "2.1.0"},
    "commit": "c0ffee123456",
    "command": "python -m benchmarks run digits",
}
FIRST = Outcome(90.0, 100, validation=91.0, curve={"loss": [2.0, 1.0]}, confusion=[[3, 1], [0, 4]], seconds=1.5)
SECOND = Outcome(94.0, 100, validation=92.0, curve={"loss": [3.0, 2.0]}, confusion=[[2, 2], [1, 3]], seconds=2.0)


@pytest.fixture
def store(tmp_path):
    return ResultStore(tmp_path / "run" / "gcn", HEADER)


def read(store):
    return json.loads(store.path.read_text())


def test_doctests():
    assert doctest.testmod(results).failed == 0


def test_attributions_of_the_first_seed_are_saved(store):
    attributions = [{"saliency_0": np.full(3, seed)} for seed in (0.0, 1.0)]
    store.add(0, Outcome(90.0, 100, attributions=attributions[0]))
    store.add(1, Outcome(80.0, 100, attributions=attributions[1]))
    with np.load(store.folder / "attributions.npz") as arrays:
        assert arrays["saliency_0"].tolist() == [0.0, 0.0, 0.0]
    assert "attributions" not in store.path.read_text()
    ResultStore(store.folder, HEADER).open(fresh=True)
    assert not (store.folder / "attributions.npz").exists(), "they went with the result"


def test_the_document(store):
    store.add(1, SECOND)  # seeds are in order, whichever came first
    store.add(0, FIRST)
    document = read(store)
    assert is_sealed(document)
    del document["checksum"]
    when = datetime.fromisoformat(document.pop("when"))
    assert when.utcoffset() == timedelta(0)
    assert when.microsecond == 0
    assert abs(datetime.now(timezone.utc) - when) < timedelta(minutes=1)
    assert document == {
        **HEADER,
        "seeds": [0, 1],
        "metric": {**HEADER["metric"], "values": [90.0, 94.0], "mean": 92.0, "std": 8**0.5},
        "validation": {"values": [91.0, 92.0]},
        "parameters": 100,
        "seconds": 3.5,
        "curves": [{"loss": [2.0, 1.0]}, {"loss": [3.0, 2.0]}],
        "confusion": [[5, 3], [1, 7]],
        "figures": None,
        "outcomes": {
            str(s): {k: v for k, v in vars(o).items() if k not in ("curve", "attributions", "model")}
            for s, o in enumerate((FIRST, SECOND))
        },
    }


def test_a_task_without_extras_and_values_of_the_protocol(store):
    store.add(0, Outcome(90.0, 100))
    document = read(store)
    assert document["metric"]["std"] is None, "one value has no spread"
    assert document["validation"] is None
    assert document["confusion"] is None
    store.add(1, Outcome(80.0, 100), scores=[70.0, 72.0])
    assert read(store)["metric"]["values"] == [70.0, 72.0]
    assert read(store)["metric"]["mean"] == 71.0
    assert read(store)["outcomes"]["1"]["score"] == 80.0


def test_other_figures_have_a_mean_over_seeds(store):
    store.add(0, Outcome(90.0, 100, figures={"error": 1.0, "once": 7.0}))
    store.add(1, Outcome(80.0, 100, figures={"error": 3.0}))
    assert read(store)["figures"] == {"error": {"values": [1.0, 3.0], "mean": 2.0, "std": 2**0.5}}
    again = ResultStore(store.folder, HEADER)
    again.open()
    assert again.entries[0].figures == {"error": 1.0, "once": 7.0}


@pytest.mark.parametrize("num", [2, 3, 10])
def test_mean_and_unbiased_deviation(num):
    values = np.random.default_rng(num).normal(80, 5, num)
    mean, std = mean_std(values.tolist())
    assert mean == pytest.approx(values.mean(), rel=1e-12)
    assert std == pytest.approx(values.std(ddof=1), rel=1e-12)
    assert mean_std([81.25]) == (81.25, None)


def test_a_crash_within_writing_leaves_the_last_whole_file(store, monkeypatch):
    store.add(0, FIRST)
    before = store.path.read_bytes()

    def half(path, text, *args, **kwargs):
        path.write_bytes(text.encode()[: len(text) // 2])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", half)
    with pytest.raises(OSError, match="No space left"):
        store.add(1, SECOND)
    assert store.path.read_bytes() == before
    assert [path.name for path in store.folder.iterdir()] == ["result.json"]


@pytest.mark.slow
def test_a_reader_never_sees_half_a_file(store):
    long = Outcome(90.0, 100, curve={"loss": [0.1] * 20_000})
    store.add(0, long)
    seen, broken, over = [], [], threading.Event()

    def keep_reading():
        while not over.is_set():
            try:
                seen.append(len(json.loads(store.path.read_text())["seeds"]))
            except ValueError as error:
                broken.append(error)

    reader = threading.Thread(target=keep_reading)
    reader.start()
    for seed in range(1, 9):
        store.add(seed, long)
    over.set()
    reader.join()
    assert broken == []
    assert seen == sorted(seen)
    assert seen


def test_finished_seeds_come_back(store, tmp_path, capsys):
    store.add(0, FIRST)
    store.add(2, SECOND)
    again = ResultStore(
        store.folder, {**HEADER, "command": "python -m benchmarks run digits --seeds 3", "machine": "other"}
    )
    again.open()
    assert again.entries == {0: FIRST, 2: SECOND}
    assert read(store)["command"] == HEADER["command"], "nothing is written until there is something new"
    again.add(1, FIRST)
    assert read(store)["seeds"] == [0, 1, 2]
    assert read(store)["command"] == "python -m benchmarks run digits --seeds 3"
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("task", "mnist"),
        ("layer", "gat"),
        ("arguments", {"epochs": 3, "limit": None, "device": "cpu"}),
        ("versions", {"torch": "2.14.0", "dgl": "2.1.0"}),
        ("commit", "decaf1234567"),
        ("commit", None),
    ],
)
def test_results_of_another_origin_are_set_aside(store, capsys, key, value):
    store.add(0, FIRST)
    old = store.path.read_bytes()
    other = ResultStore(store.folder, {**HEADER, key: value})
    other.open()
    assert other.entries == {}
    assert not store.path.exists()
    aside = store.folder / "result-c0ffee123456.json"
    assert aside.read_bytes() == old
    assert re.search(rf"result\.json has other {key}; kept as {aside.name}, starting again", capsys.readouterr().err)
    other.add(0, SECOND)
    assert read(other)[key] == value
    ResultStore(store.folder, HEADER).open()  # and back: nothing is overwritten
    files = sorted(path.name for path in store.folder.iterdir())
    assert len(files) == 2
    assert aside.read_bytes() == old


def test_fresh_sets_older_results_aside(store, capsys):
    for _ in range(3):
        store.open(fresh=True)
        assert store.entries == {}
        store.add(0, FIRST)
        store.entries = {}
    names = sorted(path.name for path in store.folder.iterdir())
    assert names == ["result-c0ffee123456-1.json", "result-c0ffee123456.json", "result.json"]
    assert "(--fresh); kept as result-c0ffee123456-1.json" in capsys.readouterr().err


DOCUMENT = {**HEADER, "outcomes": {"0": {"score": 90.0, "parameters": 100}}, "curves": [{}]}
INTACT = json.dumps(seal(DOCUMENT))


def sealed(**changes):
    return json.dumps(seal({**DOCUMENT, **changes}))


@pytest.mark.parametrize(
    "content",
    [
        INTACT[: len(INTACT) // 2],
        "",
        "[]",
        "{}",
        "\xff\xfe",
        INTACT.replace("90.0", "91.0"),
        json.dumps(DOCUMENT),
        sealed(outcomes={"first": DOCUMENT["outcomes"]["0"]}),
        sealed(outcomes={"0": {"figure": 90.0, "parameters": 100}}),
        sealed(outcomes={"0": {"score": "90", "parameters": 100}}),
        sealed(outcomes=[1]),
        '{"outcomes": ' + "[" * 10**5 + "]" * 10**5 + "}",
    ],
    ids=[
        *("truncated", "empty", "a-list", "an-object", "no-text", "changed", "no-checksum", "no-seed", "no-score"),
        *("no-number", "no-outcomes", "nested"),
    ],
)
def test_a_damaged_result_is_set_aside_and_rebuilt(store, capsys, content):
    store.folder.mkdir(parents=True)
    store.path.write_bytes(content.encode("latin1"))
    store.open()
    assert store.entries == {}
    assert (store.folder / "result-damaged.json").read_bytes() == content.encode("latin1")
    message = capsys.readouterr().err
    assert str(store.path) in message
    assert "is damaged" in message
    assert "kept as result-damaged.json" in message
    store.add(0, FIRST)
    assert read(store)["seeds"] == [0]


def test_an_intact_result_is_continued(store):
    store.folder.mkdir(parents=True)
    store.path.write_text(INTACT)
    store.open()
    assert store.entries == {0: Outcome(90.0, 100)}


def test_any_flipped_bit_is_noticed(store, capsys):
    store.add(0, FIRST)
    content, draw = store.path.read_bytes(), random.Random(0)
    for place in draw.sample(range(len(content)), 150):
        store.path.write_bytes(
            content[:place] + bytes([content[place] ^ 1 << draw.randrange(8)]) + content[place + 1 :]
        )
        again = ResultStore(store.folder, HEADER)
        again.open()
        assert again.entries in ({}, {0: FIRST}), place  # or it was white space


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A repository with one commit, whose code lies where ours does."""
    monkeypatch.delenv("GIT_DIR")
    top = tmp_path / "checkout"
    for name in ("gnnlib/ops/message_passing.py", "benchmarks/runner/run.py", "README.md"):
        (top / name).parent.mkdir(parents=True, exist_ok=True)
        (top / name).write_text("first")
    identity = {f"GIT_{who}_{what}": "x@x" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    for words in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "first"]):
        subprocess.run(["git", *words], cwd=top, check=True, env={**os.environ, **identity})
    return top


@pytest.mark.process
def test_commit_tells_changed_code_apart(checkout):
    clean = results.commit(checkout)
    assert re.fullmatch("[0-9a-f]{12}", clean)
    seen = {clean}
    for text in ("second", "third"):
        (checkout / "gnnlib/ops/message_passing.py").write_text(text)
        seen.add(results.commit(checkout))
        assert re.fullmatch(f"{clean}-dirty-[0-9a-f]{{8}}", results.commit(checkout))
    assert len(seen) == 3, "each state of the code has a name of its own"
    dirty = results.commit(checkout)
    (checkout / "README.md").write_text("third")
    assert results.commit(checkout) == dirty, "the text beside the code does not matter"
    (checkout / "gnnlib/ops/message_passing.py").write_text("first")
    (checkout / "README.md").write_text("first")
    assert results.commit(checkout) == clean


def test_no_commit_outside_git(tmp_path):
    assert results.commit(tmp_path) is None


def test_the_hardware_has_names(monkeypatch):
    machine = results.machine()
    assert re.fullmatch(r"\d+ cores \(.+\), \d+ GiB, \d+ threads, \w+", machine)
    monkeypatch.setattr("torch.cuda.get_device_name", lambda device: f"the GPU {device}")
    assert ", the GPU cuda:1, " in results.machine("cuda:1")
    monkeypatch.setattr(results.Path, "read_text", lambda path: "model name\t: Abacus 9\n")
    assert "(Abacus 9)" in results.machine()


def test_versions_name_what_the_figures_depend_on():
    assert {"python", "torch", "dgl", "numba", "gnnlib"} <= set(results.versions())
