"""Saved models of a run, with a model card."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gnnlib._utils.files import atomic_write
from gnnlib.benchmarks.records.results import Outcome, ResultStore
from gnnlib.io.save import about_model, save_model


def keep_model(store: ResultStore, seed: int, outcome: Outcome) -> None:
    """Saves a seed's model to ``model`` beside its result, unless the saved one is as good on validation.

    Without validation the first seed's model stays.
    """
    assert outcome.model is not None
    try:
        saved = about_model(store.model)
    except (FileNotFoundError, ValueError):
        saved = None
    sign = 1 if store.header["metric"]["higher_is_better"] else -1
    if saved is None or _better(outcome.validation, saved["validation"], sign):
        about = {"task": store.header["task"], "layer": store.header["layer"], "seed": seed, "score": outcome.score}
        save_model(outcome.model, store.model, about={**about, "validation": outcome.validation})


def _better(new: float | None, old: float | None, sign: int) -> bool:
    return new is not None and old is not None and sign * new > sign * old


def write_card(store: ResultStore, inputs: str | None) -> None:
    """Writes ``README.md`` of the model, from the result of all seeds so far."""
    result, about = store.document(), about_model(store.model)
    metric, seeds = result["metric"], result["seeds"]
    unit = metric["unit"] and f" {metric['unit']}"
    spread = "" if metric["std"] is None else f" ± {metric['std']:.2f}"
    over = "seed 0" if seeds == [0] else f"seeds {', '.join(map(str, seeds))}"
    chosen = "" if about["validation"] is None else f"; {about['validation']:.2f}{unit} on validation"
    published = result["published"] and f"{result['published']['value']}, {result['published']['source']}"
    rows = {
        metric["name"]: f"{metric['mean']:.2f}{spread}{unit} over {over}",
        "this model": f"{about['score']:.2f}{unit}, seed {about['seed']}{chosen}",
        "published": published,
        "data": result["summary"],
        "what it sees": inputs,
        "arguments": ", ".join(f"{name} {value}" for name, value in result["arguments"].items() if value is not None),
        "parameters": f"{result['parameters']}",
        "training": f"{result['seconds']:.0f} s in all, on {result['machine']}",
        "versions": ", ".join(f"{name} {version}" for name, version in result["versions"].items()),
        "commit": result["commit"],
        "command": f"`{result['command']}`",
    }
    table = "".join(f"| {name} | {text} |\n" for name, text in rows.items() if text)
    head = f"# {result['title']} on {result['task']}\n\n|   |   |\n|---|---|\n"
    with atomic_write(store.model / "README.md") as part:
        part.write_text(f"{head}{table}\n{_usage(store.model)}")


def _usage(folder: Path) -> str:
    """The lines of Python that load the model."""
    config = json.loads((folder / "config.json").read_text())
    foreign = sorted(set(filter(_is_foreign, _names(config["model"]))))
    imports = "".join(f"from {name.rpartition('.')[0]} import {name.rpartition('.')[2]}\n" for name in foreign)
    trusted = f", safe_globals=[{', '.join(name.rpartition('.')[2] for name in foreign)}]" if foreign else ""
    load = f'model = gnnlib.load_model("{folder.name}"{trusted})  # model(graph, x, edge)'
    return f"```python\nimport gnnlib\n{imports}\n{load}\n```\n"


def _is_foreign(name: str) -> bool:
    """Whether `gnnlib.load_model` needs the class or function of this name in ``safe_globals``."""
    return name.startswith("gnnlib.benchmarks.") or not name.startswith(("gnnlib.", "torch.nn."))


def _names(config: Any) -> Iterator[str]:
    """The names of the classes and functions of a model."""
    if isinstance(config, dict):
        yield from (config[kind] for kind in ("module", "name") if isinstance(config.get(kind), str))
    for part in config.values() if isinstance(config, dict) else config if isinstance(config, list) else ():
        yield from _names(part)
