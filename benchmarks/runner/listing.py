"""What can be run: tasks, layers and remedies by name, or described in tables."""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from gnnlib.benchmarks.catalog.layers import LAYERS, LayerSpec
from gnnlib.benchmarks.catalog.remedies import REMEDIES
from gnnlib.benchmarks.options import program
from gnnlib.benchmarks.tasks import GROUPS, TASKS

if TYPE_CHECKING:
    from rich.table import Table

NEEDS = {"graph": "", "edge_feats": "edge features", "pos_feats": "positions", "image": "images"}


def overview() -> "list[Table]":
    """The names, on one screen."""
    tasks = {group: [task.name for task in members] for group, members in GROUPS.items()}
    tasks["molecules"].append("tu:NAME")
    layers: dict[str, list[str]] = {}
    for layer in LAYERS.values():
        layers.setdefault(_needs(layer) or "any graph", []).append(layer.name)
    further = len(_all_layers()) - len(LAYERS)
    return [
        _names(f"Tasks: {program()} run TASK (described by: list -v)", tasks),
        _names(f"Layers: --layers A,B ({further} more, of single tasks: list -v)", layers),
        _names("Remedies: --remedy A+B; of 'depth': --remedies A,B+C", {"against depth": REMEDIES}),
    ]


def descriptions() -> "list[Table]":
    """A table of the tasks and one of the layers."""
    from rich.table import Table

    tasks = Table("task", "description", "layers", "seeds", title="Tasks")
    for name, task in TASKS.items():
        tasks.add_row(name, task.summary, ", ".join(task.layers), str(task.seeds))
    tasks.add_row("tu:NAME", "any data set of the TU collection, such as tu:NCI1, tu:ENZYMES+attributes", "gin", "10")
    layers = Table("layer", "title", "needs", title="Layers")
    for layer in _all_layers().values():
        layers.add_row(layer.name, layer.title, _needs(layer))
    return [tasks, layers]


def _names(title: str, groups: Mapping[str, Iterable[str]]) -> "Table":
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0), title=title, title_justify="left")
    table.add_column(no_wrap=True, style="cyan", min_width=15)
    table.add_column()
    for group, names in groups.items():
        table.add_row(group, Text(", ".join(names)))
    return table


def _needs(layer: LayerSpec) -> str:
    return NEEDS.get(layer.needs, layer.needs)


def _all_layers() -> dict[str, LayerSpec]:
    """The layers of the catalogue, then those of single tasks."""
    extra = {layer.name: layer for task in TASKS.values() for layer in task.extra_layers}
    return {**LAYERS, **extra, **LAYERS}
