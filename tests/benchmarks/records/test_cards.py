"""The model that a run keeps: which seed's it is, and that its card tells how it came about and how to use it."""

import json
import re
from itertools import pairwise

import pytest
import torch
from torch import nn

import gnnlib
from gnnlib.benchmarks.__main__ import main
from gnnlib.benchmarks.records.cards import keep_model, write_card
from gnnlib.benchmarks.records.results import Outcome, ResultStore
from gnnlib.benchmarks.runner import run as runner
from gnnlib.benchmarks.tasks import TASKS
from gnnlib.io.save import about_model
from tests.benchmarks.fake_task import Fake
from tests.benchmarks.records.test_results import HEADER


@pytest.fixture
def store(tmp_path):
    header = {"summary": "handwritten digits", "machine": "2 cores", **HEADER}
    return ResultStore(tmp_path / "run" / "gcn", header)


def add(store, seed, score, validation):
    """As the runner does; the one weight of the model is the seed's number."""
    model = nn.Linear(1, 1)
    nn.init.constant_(model.weight, seed)
    outcome = Outcome(score, 2, validation=validation, model=model)
    keep_model(store, seed, outcome)
    store.add(seed, outcome)
    write_card(store, "x: pixels")
    assert outcome.model is None, "one model at a time is in memory"


class Doubled(nn.Linear):
    """A model of a class that gnnlib does not have."""


def test_the_card_names_safe_globals(store):
    outcome = Outcome(70.0, 2, model=Doubled(1, 1))
    keep_model(store, 0, outcome)
    store.add(0, outcome)
    write_card(store, "x: pixels")
    text, _ = card(store)
    assert "from tests.benchmarks.records.test_cards import Doubled\n" in text
    assert 'gnnlib.load_model("model", safe_globals=[Doubled])' in text


def card(store):
    text = (store.model / "README.md").read_text()
    return text, dict(re.findall(r"^\| ([^|]+) \| (.+) \|$", text, re.M))


@pytest.mark.parametrize(
    ("higher", "validation", "best"),
    [
        (True, [80.0, 90.0, 85.0], 1),
        (True, [90.0, 90.0, 85.0], 0),
        (False, [0.9, 0.7, 0.8], 1),
        (True, [None, None, None], 0),
    ],
)
def test_the_best_seed_on_validation_is_kept(store, higher, validation, best):
    store.header["metric"]["higher_is_better"] = higher
    for seed, value in enumerate(validation):
        add(store, seed, 70.0 + seed, value)
    about = about_model(store.model)
    assert (about["seed"], about["validation"], about["score"]) == (best, validation[best], 70.0 + best)
    assert gnnlib.load_model(store.model).weight.item() == best
    _, rows = card(store)
    chosen = "" if validation[0] is None else f"; {validation[best]:.2f} % on validation"
    assert rows["this model"] == f"{70 + best}.00 %, seed {best}{chosen}"


def test_the_card(store):
    add(store, 0, 90.0, 91.0)
    assert card(store)[1]["test accuracy"] == "90.00 % over seed 0"
    add(store, 1, 94.0, 92.0)
    text, rows = card(store)
    assert text.startswith("# GCN on digits\n")
    assert rows["test accuracy"] == "92.00 ± 2.83 % over seeds 0, 1"
    assert rows["command"] == "`python -m benchmarks run digits`"
    assert rows["commit"] == "c0ffee123456"
    assert rows["versions"] == "torch 2.13.0, dgl 2.1.0"
    assert (rows["data"], rows["what it sees"], rows["parameters"]) == ("handwritten digits", "x: pixels", "2")
    assert "published" not in rows
    published = {"value": 95.5, "std": None, "source": "LeCun et al. 1998", "setting": "all of MNIST"}
    store.header["published"] = published
    add(store, 2, 94.0, 92.0)
    assert card(store)[1]["published"] == "95.5, LeCun et al. 1998"


def test_a_model_of_other_code_is_set_aside_with_its_result(store, capsys):
    add(store, 0, 90.0, 91.0)
    other = ResultStore(store.folder, {**store.header, "commit": "decaf1234567"})
    other.open()
    assert sorted(path.name for path in store.folder.iterdir()) == ["model-c0ffee123456", "result-c0ffee123456.json"]
    assert "kept as result-c0ffee123456.json" in capsys.readouterr().err


@pytest.fixture
def fake(monkeypatch):
    monkeypatch.setitem(TASKS, "fake", Fake)
    monkeypatch.setattr(Fake, "ran", [])
    monkeypatch.setattr(runner, "write_report", lambda folder: folder / "report.html")


def test_saved_models_load_as_their_cards_say(fake, tmp_path, monkeypatch, capsys):
    words = ["run", "fake", "--clip", "0.5", "--precision", "bfloat16", "--out", str(tmp_path)]
    assert main([*words, "--save"]) == 0
    folder = tmp_path / "fake-bfloat16-clip0.5"
    for name in ("gcn", "mlp"):
        result = json.loads((folder / name / "result.json").read_text())
        assert (result["arguments"]["clip"], result["arguments"]["precision"]) == (0.5, "bfloat16")
        card = (folder / name / "model" / "README.md").read_text()
        assert "`python -m benchmarks run fake --precision bfloat16 --clip 0.5 --save`" in card
        monkeypatch.chdir(folder / name)
        (code,) = re.findall(r"```python\n(.*?)```", card, re.S)
        scope = {}
        exec(code, scope)
        assert sum(p.numel() for p in scope["model"].parameters()) == result["parameters"]
    assert "safe_globals=[Pointwise]" in card
    assert main([*words, "--fresh"]) == 0
    assert main([*words, "--save"]) == 0
    assert "--save: seeds that were done before have left no model; --fresh trains them" in capsys.readouterr().out


def test_no_model_is_saved_without_save(fake, tmp_path):
    assert main(["run", "fake", "--seeds", "1", "--out", str(tmp_path)]) == 0
    assert not list(tmp_path.rglob("model*"))


def test_clipping_changes_what_is_trained(fake, tmp_path):
    losses = []
    for clip in ([], ["--clip", "1e-6"]):
        words = ["run", "fake", "--layers", "gcn", "--seeds", "1", "--out", str(tmp_path / str(len(losses)))]
        assert main([*words, *clip]) == 0
        (path,) = tmp_path.glob(f"{len(losses)}/*/gcn/log.jsonl")
        losses.append([json.loads(line)["loss"] for line in path.read_text().splitlines()])
    assert losses[0] != losses[1]
    assert all(a != b for a, b in pairwise(losses[0]))
    torch.testing.assert_close(losses[0][0], losses[1][0])
