"""Configuration files: what they set, that the command line wins, and the errors."""

import json
import sys

import pytest

from gnnlib._platform.modules import module_as
from gnnlib._utils.documents import seal
from gnnlib.benchmarks.__main__ import main
from gnnlib.benchmarks.configuration import read_config
from gnnlib.benchmarks.errors import UsageError
from gnnlib.benchmarks.options import OPTIONS, program
from gnnlib.benchmarks.runner import run as runner
from gnnlib.benchmarks.tasks import TASKS
from tests.benchmarks.fake_task import Fake


@pytest.fixture
def requests(monkeypatch):
    """The requests that ``run`` receives."""
    received = []
    monkeypatch.setattr(runner, "run", received.append)
    return received


def write(tmp_path, text, name="run.yaml"):
    path = tmp_path / name
    path.write_text(text)
    return path


def test_a_yaml_file_sets_options_and_the_command_line_wins(tmp_path, requests):
    text = "tasks: [cora, digits]\nlayers: [gcn, gat]\nseeds: 3\nclip: 0.5\nsave: true\nout: runs\npatience: null\n"
    path = write(tmp_path, text)
    assert main(["run", "--config", str(path)]) == 0
    assert main(["run", "citeseer", "--seeds", "2", "--no-save", "--config", str(path), "--layers", "sgc"]) == 0
    words = "cora digits --layers gcn,gat --seeds 3 --clip 0.5 --save --out runs"
    assert main(["run", *words.split()]) == 0
    assert main(["run", *["citeseer", "--layers", "sgc", "--seeds", "2", "--clip", "0.5", "--out", "runs"]]) == 0
    assert requests[:2] == requests[2:]


def test_values_may_be_texts_as_on_the_command_line(tmp_path):
    path = write(tmp_path, json.dumps({"tasks": "cora", "layers": "gcn, gat", "epochs": "5"}), "run.json")
    assert read_config(path) == {"tasks": ["cora"], "layers": ["gcn", "gat"], "epochs": 5}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("epoch: 5", "unknown option 'epoch'; expected some of: tasks, layers, seeds, epochs, limit, recipe, "),
        ("config: other.yaml", "unknown option 'config'"),
        ("epochs: many", "epochs: expected N, got 'many'"),
        ("save: 3", "save: expected true or false, got 3"),
        ("cora", "expected options by name, got str"),
        ("a: [", "expected YAML: "),
        ("layers: &a [*a]", "layers: expected a value or a list of values, got a nested one"),
        ("epochs: {a: 1}", "epochs: expected a value or a list of values, got a nested one"),
        ("[" * 10**4, "expected YAML: "),
    ],
)
def test_invalid_files(tmp_path, capsys, text, message):
    path = write(tmp_path, text)
    assert main(["run", "--config", str(path)]) == 2
    assert f"benchmarks: error: {path}: {message}" in capsys.readouterr().err


def test_a_missing_file_and_damaged_json(tmp_path, capsys):
    assert main(["run", "--config", str(tmp_path / "none.yaml")]) == 2
    assert "none.yaml" in capsys.readouterr().err
    with pytest.raises(UsageError, match="expected JSON"):
        read_config(write(tmp_path, "{", "result.json"))


@pytest.mark.slow
def test_a_result_is_run_again(tmp_path, monkeypatch):
    monkeypatch.setitem(TASKS, "fake", Fake)
    words = ["fake", "--layers", "gcn,mlp", "--epochs", "3", "--clip", "0.5", "--out"]
    assert main(["run", *words, str(tmp_path / "first")]) == 0
    path = tmp_path / "first" / "fake-epochs3-clip0.5" / "mlp" / "result.json"
    assert main(["run", "--config", str(path), "--out", str(tmp_path / "second")]) == 0
    (again,) = (tmp_path / "second").rglob("result.json")
    assert again.relative_to(tmp_path / "second") == path.relative_to(tmp_path / "first")
    first, second = (json.loads(p.read_text()) for p in (path, again))
    assert second["outcomes"].keys() == first["outcomes"].keys()
    for key in ("arguments", "metric", "curves"):
        assert second[key] == first[key]
    assert second["command"] == "python -m benchmarks run fake --layers mlp --seeds 2 --epochs 3 --clip 0.5"


def test_a_result_of_another_command(tmp_path):
    document = {"command": "python -m benchmarks host --addresses A,B DIR", "layer": "sage", "seeds": [0]}
    with pytest.raises(UsageError, match="expected a result of 'run', got one of 'python -m benchmarks host"):
        read_config(write(tmp_path, json.dumps(seal(document)), "result.json"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"layer": ["gcn"]}, r"expected a layer and the numbers of its seeds, got \['gcn'\]"),
        ({"seeds": []}, r"expected a layer and the numbers of its seeds, got 'gcn' and \[\]"),
        ({"seeds": ["0"]}, "expected a layer and the numbers of its seeds"),
        ({"command": 5}, "expected a result of 'run', got one of 5"),
    ],
)
def test_results_of_others(tmp_path, change, message):
    document = {"command": "python -m benchmarks run digits --out /elsewhere", "layer": "gcn", "seeds": [0, 1]}
    options = read_config(write(tmp_path, json.dumps(seal(document)), "result.json"))
    assert "out" not in options, "a result does not choose where files are written"
    assert options["seeds"] == 2
    with pytest.raises(UsageError, match=message):
        read_config(write(tmp_path, json.dumps(seal({**document, **change})), "result.json"))
    with pytest.raises(UsageError, match="expected a result with the checksum of its content, got a damaged one"):
        read_config(write(tmp_path, json.dumps({**seal(document), "seeds": [0, 1, 2]}), "result.json"))


def test_a_missing_package_is_named_with_its_extra(tmp_path, capsys):
    with module_as("yaml", None):
        assert main(["run", "--config", str(write(tmp_path, "epochs: 5"))]) == 2
    error = "benchmarks: error: expected pyyaml to be installed: pip install 'gnnlib[bench]'\n"
    assert capsys.readouterr().err == error


def test_the_console_script_goes_by_its_name(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["/usr/bin/gnnlib", "run"])
    assert program() == "gnnlib"
    with pytest.raises(SystemExit):
        main(["--help"])
    assert "\n  gnnlib run digits\n" in capsys.readouterr().out
    assert main(["run", "nothing"]) == 2
    assert capsys.readouterr().err.startswith("gnnlib: error: unknown task")


def test_options_are_declared_once_per_command():
    pairs = [(command, option.name) for option in OPTIONS for command in option.commands.split()]
    assert len(set(pairs)) == len(pairs)
