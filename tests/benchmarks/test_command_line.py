"""The command line: what it teaches, and what it says to bad input, each in one line before anything is trained."""

import doctest
import gzip
import os
import pickle
import re
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from gnnlib.benchmarks.__main__ import main
from gnnlib.benchmarks.arguments import COMMANDS, parser
from gnnlib.benchmarks.catalog.layers import LAYERS
from gnnlib.benchmarks.catalog.remedies import REMEDIES
from gnnlib.benchmarks.errors import UsageError
from gnnlib.benchmarks.runner import request
from gnnlib.benchmarks.runner import run as runner
from gnnlib.benchmarks.tasks import TASKS
from tests.benchmarks.fake_task import Fake

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _offline(monkeypatch):
    """No network, whatever this machine has; nothing is trained unless a test says so."""

    def refuse(url, timeout=None):
        assert timeout is not None
        assert timeout <= 10
        raise urllib.error.URLError("Name or service not known")

    monkeypatch.setattr(urllib.request, "urlopen", refuse)
    for task in set(TASKS.values()):
        monkeypatch.setattr(task, "run", lambda *args: pytest.fail("a training began"))
    monkeypatch.setenv("COLUMNS", "100")


def fails(capsys, tmp_path, *arguments):
    """The one line on stderr of a command that leaves nothing behind."""
    out = tmp_path / "results"
    before = sorted(tmp_path.rglob("*"))
    where = [] if "--out" in arguments else ["--out", str(out)]
    assert main([str(word) for word in (*arguments, *where)]) == 2
    assert not out.exists()
    assert [path for path in sorted(tmp_path.rglob("*")) if "cache" not in path.parts] == [
        path for path in before if "cache" not in path.parts
    ]
    error = capsys.readouterr().err
    assert error.startswith("benchmarks: error: ")
    assert error.count("\n") == 1
    assert "Traceback" not in error
    assert len(error) < 1000
    return error


# what it teaches


@pytest.mark.process
def test_help_shows_examples():
    env = {**os.environ, "COLUMNS": "100"}
    command = [sys.executable, "-X", "importtime", "-m", "benchmarks", "--help"]
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0
    assert "examples:" in done.stdout
    assert not re.search(r"\| +torch$", done.stderr, re.M), "--help waits for no torch"


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_examples_are_commands_that_parse(capsys, command):
    """The first help has one of each command, that of a command its own three."""
    with pytest.raises(SystemExit, match="0"):
        main([*filter(None, [command]), "--help"])
    text = capsys.readouterr().out
    examples = [example.split() for example in re.findall(r"^  python -m benchmarks ([^|\n]+)", text, re.M)]
    if command:
        assert len(examples) == 3
        assert {example[0] for example in examples} == {command}
    else:
        assert [example[0] for example in examples] == list(COMMANDS)
    for example in examples:
        options = parser().parse_args(example)
        names = [*getattr(options, "tasks", []), *([options.name] if command in ("partition", "scaling") else [])]
        assert set(names) <= set(TASKS)
        assert set(getattr(options, "layers", None) or []) <= set(LAYERS)
    if command in ("", "run"):
        assert "--data DIR" in text
        assert "GNNLIB_DATA" in text
    assert max(map(len, text.splitlines())) <= 120


def test_each_option_is_explained(capsys):
    with pytest.raises(SystemExit):
        main(["run", "--help"])
    text = capsys.readouterr().out
    for flag in (
        "--layers A,B",
        "--seeds N",
        "--epochs N",
        "--limit N",
        "--data DIR",
        "--out DIR",
        "--device D",
        "--clip X",
        "--precision P",
        "--schedule S",
        "--patience N",
        "--save",
        "--tensorboard",
        "--fresh",
    ):
        assert re.search(rf"^  {flag}\s+\w+", text, re.M), flag


def test_list_names_tasks_layers_and_remedies_on_one_screen(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    assert main(["list"]) == 0
    text = capsys.readouterr().out
    assert len(text.splitlines()) <= 32
    for name in [*TASKS, *LAYERS, *REMEDIES]:
        assert re.search(rf"(^|[ ,]){re.escape(name)}([ ,]|$)", text, re.M), name
    assert "edge features" in text


def test_list_describes_every_task_and_layer_on_request(capsys):
    assert main(["list", "-v"]) == 0
    text = capsys.readouterr().out
    extra = {layer.name for task in TASKS.values() for layer in task.extra_layers}
    for name in [*TASKS, *LAYERS, *extra]:
        assert re.search(rf"│ {re.escape(name)} +│", text), name
    assert "edge features" in text
    assert "positions" in text


@pytest.mark.parametrize(
    "words", [[], ["nothing"], ["speed", "--repeats", "0"], ["run", "digits", "--seeds", "two"], ["list", "digits"]]
)
def test_unparsable_arguments_show_the_usage(capsys, words):
    with pytest.raises(SystemExit, match="2"):
        main(words)
    assert "usage: python -m benchmarks" in capsys.readouterr().err


def test_run_without_a_task_means_digits():
    assert parser().parse_args(["run"]).tasks == ["digits"]


# bad input


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nothing"], "unknown task 'nothing'; expected one of: digits, mnist, lenet, "),
        (["digits", "nothing"], "unknown task 'nothing'"),
        (["digits", "--layers", "gcn,transformer"], "unknown layer 'transformer'; expected one of: mlp, gcn, gin, "),
        (["digits", "--layers", ""], "unknown layer ''; expected one of: mlp"),
        (["digits", "--seeds", "0"], "--seeds: expected 1 or more, got 0"),
        (["digits", "--seeds", "-3"], "--seeds: expected 1 or more, got -3"),
        (["mutag", "--seeds", "11"], "--seeds: mutag has 10 folds, got 11"),
        (["digits", "--epochs", "0"], "--epochs: expected 1 or more, got 0"),
        (["digits", "--limit", "0"], "--limit: expected 2 or more, got 0"),
        (["digits", "--limit", "1"], "--limit: expected 2 or more, got 1"),
        (["digits", "--clip", "0"], "--clip: expected a norm above 0, got 0.0"),
        (["digits", "--clip", "nan"], "--clip: expected a norm above 0, got nan"),
        (["digits", "--precision", "fp8"], "--precision: expected float32 or bfloat16, got 'fp8'"),
        (["planted", "--patience", "0"], "--patience: expected 1 or more, got 0"),
        (["digits", "--patience", "3"], "--patience: digits does not choose its epoch on validation, got 3"),
        (
            ["planted", "--schedule", "step"],
            "--schedule: expected one of constant, cosine, warmup for planted, got 'step'",
        ),
        (["digits", "--schedule", "cosine"], "--schedule: expected none for digits, got 'cosine'"),
        (["digits", "sphere", "--clip", "1"], "--clip: sphere trains otherwise than one network a seed, got 1.0"),
        (["transfer", "--save"], "--save: transfer trains otherwise than one network a seed, got True"),
        (["cora", "--limit", "5"], "--limit: cora is always run whole, got 5"),
        (["cora", "--mode", "full"], "--mode: expected none for cora, got 'full'"),
        (
            ["planted", "--mode", "batch"],
            "--mode: expected one of full, sampled, clusters, propagated for planted, got 'batch'",
        ),
        (
            ["planted", "--labels", "input+all"],
            "--labels: expected one of input, distil, correct-smooth for planted, got 'all'",
        ),
        (["cora", "--recipe", "monti"], "--recipe: expected none for cora, got 'monti'"),
        (["mnist-superpixels", "--recipe", "slic"], "--recipe: expected one of dwivedi, knyazev, "),
        (["digits", "--device", "cuda:99"], "--device: expected one of cpu"),
        (["digits", "--device", "abacus"], "--device: expected one of cpu"),
        (["digits", "--device", "meta"], "--device: expected one of cpu"),
        (["cora", "--data", "/no/such/folder"], "--data: expected a directory, /no/such/folder is none"),
    ],
)
def test_bad_arguments(capsys, tmp_path, arguments, message):
    assert message in fails(capsys, tmp_path, "run", *arguments)


def test_data_that_is_a_file(capsys, tmp_path):
    file = tmp_path / "file"
    file.touch()
    assert f"--data: expected a directory, {file} is none" in fails(capsys, tmp_path, "run", "mnist", "--data", file)


def test_gnnlib_data_that_is_no_directory(capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("GNNLIB_DATA", str(tmp_path / "gone"))
    error = fails(capsys, tmp_path, "run", "cora")
    assert f"expected a data directory, got GNNLIB_DATA={tmp_path}/gone" in error


@pytest.mark.parametrize("below", ["", "/runs", "/runs/mine"])
def test_results_that_cannot_be_written(capsys, tmp_path, below):
    (tmp_path / "file").write_text("mine")
    error = fails(capsys, tmp_path, "run", "digits", "--out", f"{tmp_path}/file{below}")
    assert f"--out: expected a folder that can be written, got {tmp_path}/file{below}" in error
    assert "Not a directory" in error
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_results_in_a_folder_without_permission(capsys, tmp_path):
    (tmp_path / "locked").mkdir(mode=0o500)
    assert "Permission denied" in fails(capsys, tmp_path, "run", "digits", "--out", tmp_path / "locked" / "runs")


def test_a_layer_that_the_task_cannot_serve(capsys, tmp_path, twins):
    error = fails(capsys, tmp_path, "run", "cora", "--layers", "gcn,ecc", "--data", twins.planetoid())
    assert "cora has no edge_feats for layer 'ecc'; expected one of: mlp, gcn, gin, sage, gat" in error


@pytest.mark.parametrize(
    ("task", "file"),
    [
        ("mnist", "mnist/train-images-idx3-ubyte.gz"),
        ("mnist-superpixels", "idx3-ubyte.gz"),
        ("cora", "planetoid/ind.cora.y"),
        ("citeseer", "planetoid/ind.citeseer.y"),
        ("proteins", "tu/PROTEINS.zip"),
        ("ogbg-molhiv", "ogb/hiv.zip"),
    ],
)
@pytest.mark.parametrize("named", [True, False])
def test_a_data_directory_without_the_files(capsys, tmp_path, task, file, named):
    folder = tmp_path / "data"
    folder.mkdir()
    error = fails(capsys, tmp_path, "run", task, *(["--data", folder] if named else []))
    assert re.search(rf"{file} not found: {'no ' + str(folder) if named else 'no data directory given'}", error)
    assert "cannot download https://" in error
    assert "Name or service not known" in error
    assert "--data DIR" in error


def test_a_truncated_idx_file(capsys, tmp_path, twins):
    path = twins.mnist() / "mnist" / "t10k-images-idx3-ubyte.gz"
    content = gzip.decompress(path.read_bytes())
    path.write_bytes(gzip.compress(content[:-100]))
    error = fails(capsys, tmp_path, "run", "mnist", "--data", twins.folder)
    size = len(content)
    assert f"{path} is truncated: expected {size} bytes for shape (12, 28, 28), got {size - 100}" in error


def test_a_wrong_magic_number(capsys, tmp_path, twins):
    path = twins.mnist() / "mnist" / "train-labels-idx1-ubyte.gz"
    path.write_bytes(gzip.compress(b"\0\0\x08\x07" + gzip.decompress(path.read_bytes())[4:]))
    error = fails(capsys, tmp_path, "run", "mnist", "--data", twins.folder)
    assert f"{path}: expected the magic number 0x00000801, got 0x00000807" in error


class Evil:
    def __reduce__(self):
        return os.system, ("touch pwned",)


def test_a_pickle_that_names_a_foreign_class(capsys, tmp_path, twins, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = twins.planetoid() / "planetoid" / "ind.cora.graph"
    path.write_bytes(pickle.dumps(Evil()))
    error = fails(capsys, tmp_path, "run", "cora", "--data", twins.folder)
    assert f"{path}: expected a pickle of" in error
    assert "got one that names posix.system" in error
    assert not (tmp_path / "pwned").exists()


def test_too_high_a_limit(capsys, tmp_path, twins):
    error = fails(capsys, tmp_path, "run", "mnist-superpixels", "--limit", "25", "--data", twins.mnist())
    assert "expected limit from 1 to 24, the number of images, got 25" in error


@pytest.mark.parametrize("make", [True, False])
def test_a_report_on_an_empty_folder(capsys, tmp_path, make):
    folder = tmp_path / "empty"
    if make:
        folder.mkdir()
    error = fails(capsys, tmp_path, "report", "--out", folder)
    assert f"no results in {folder}: expected {folder}/<run>/<layer>/result.json; make some with 'run'" in error


@pytest.mark.process
def test_the_exit_code_of_the_process(tmp_path):
    command = [sys.executable, "-m", "benchmarks", "run", "digits", "--seeds", "0", "--out", str(tmp_path / "out")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "benchmarks: error: --seeds: expected 1 or more, got 0\n"
    assert not (tmp_path / "out").exists()


def test_debugging_shows_where_an_error_came_from(monkeypatch):
    monkeypatch.setenv("GNNLIB_DEBUG", "1")
    with pytest.raises(UsageError, match="unknown task"):
        main(["run", "nothing"])


# the report


@pytest.fixture
def fake(monkeypatch):
    monkeypatch.setitem(TASKS, "fake", Fake)


def table(text):
    lines = text.splitlines()
    return lines[next(i for i, line in enumerate(lines) if "rank" in line) - 2 : -1]


@pytest.mark.slow
def test_report_prints_the_leaderboard_again(capsys, tmp_path, fake):
    assert main(["run", "fake", "--out", str(tmp_path)]) == 0
    first = table(capsys.readouterr().out)
    assert any("GCN" in line for line in first)
    (tmp_path / "fake" / "report.html").unlink()
    assert main(["report", "--out", str(tmp_path)]) == 0
    output = capsys.readouterr().out
    assert table(output) == first
    assert output.splitlines()[-1] == f"Report: {tmp_path}/fake/report.html"
    assert (tmp_path / "fake" / "report.html").is_file()
    assert main(["report", "--out", str(tmp_path / "fake")]) == 0, "the run's own folder will do"
    assert table(capsys.readouterr().out) == first


@pytest.mark.slow
def test_report_names_a_damaged_result_and_shows_the_others(capsys, tmp_path, fake, monkeypatch):
    assert main(["run", "fake", "--out", str(tmp_path), "--seeds", "1"]) == 0
    path = tmp_path / "fake" / "gcn" / "result.json"
    path.write_text(path.read_text()[:-30])
    capsys.readouterr()
    assert main(["report", "--out", str(tmp_path)]) == 0
    output = capsys.readouterr()
    assert "gcn/result.json" in output.err
    assert "no graph (control)" in output.out
    assert "GCN" not in output.out


def test_the_newest_run_comes_last(tmp_path):
    for age, name in enumerate(("new", "old", "oldest")):
        path = tmp_path / name / "gcn" / "result.json"
        path.parent.mkdir(parents=True)
        path.touch()
        os.utime(path, (1e9 - age, 1e9 - age))
    (tmp_path / "oldest" / "report.html").touch()
    assert [path.name for path in runner.runs(tmp_path)] == ["oldest", "old", "new"]


def test_the_command_of_a_request():
    assert doctest.testmod(request).failed == 0
    everything = request.RunRequest(
        tasks=["cora", "digits"],
        layers=["gcn", "gat"],
        seeds=3,
        out=Path("/secret"),
        fresh=True,
        data=Path("/secret"),
        epochs=5,
        limit=6,
        device="cuda:1",
    )
    command = "python -m benchmarks run cora --layers gcn,gat --seeds 3 --epochs 5 --limit 6 --data DIR --device cuda:1"
    assert everything.command_of("cora") == command
    words = parser().parse_args(command.split()[3:])
    assert (words.layers, words.seeds, words.epochs, words.limit, words.device) == (["gcn", "gat"], 3, 5, 6, "cuda:1")
    assert request.RunRequest(tasks=["digits"]).command_of("digits") == "python -m benchmarks run digits"
