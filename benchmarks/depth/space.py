"""The search space of a tuned depth study: the hyperparameters of a cell, and the recipe of the untuned study."""

from typing import Any, NamedTuple

from gnnlib import SkipInit
from gnnlib.benchmarks.catalog.remedies import make_plan
from gnnlib.benchmarks.depth.cells import Cell, TrainingSettings

__all__ = ["Choice", "Interval", "Space", "common_params", "declared_space", "search_space"]


class Interval(NamedTuple):
    """Numbers between two bounds, drawn uniformly, or uniformly on a logarithmic scale."""

    low: float
    high: float
    log: bool = False


class Choice(NamedTuple):
    """Some values, drawn with equal probability."""

    values: tuple[Any, ...]


Space = dict[str, Interval | Choice]

DROPS = {"dropedge", "dropnode", "dropmessage", "skipnode"}
FIRST_FEATURES = {"initial", "gcnii", "appnp"}


def declared_space(settings: TrainingSettings) -> Space:
    """The hyperparameters of all cells, around the settings of the untuned study.

    - ``lr``: the learning rate of Adam
    - ``width``: hidden features
    - ``dropout``: the probability of dropout
    - ``weight_decay``
    - ``norm``: "before" or "after" the sum of a residual connection
    - ``block_decay``: the weight decay of the blocks, as a multiple (GCNII's code has 20)
    - ``alpha``, ``lam``: the share of the first features, and lambda of identity mapping (GCNII)
    - ``drop``: the probability of dropping edges, nodes or messages, or of nodes that skip a layer

    Example:
        >>> from gnnlib.benchmarks.depth import TrainingSettings
        >>> from gnnlib.benchmarks.depth.space import declared_space
        >>> declared_space(TrainingSettings())["width"]
        Choice(values=(32, 64))
    """
    width, decay = settings.width, settings.weight_decay
    decays = (0.0, decay / 100, decay / 10, decay, decay * 10)
    return {
        "lr": Interval(settings.lr / 10, settings.lr * 3, log=True),
        "width": Choice(tuple(dict.fromkeys((max(1, width // 2), width)))),
        "dropout": Interval(0.0, max(0.8, settings.drop)),
        "weight_decay": Choice(tuple(dict.fromkeys(decays))),
        "norm": Choice(("before", "after")),
        "block_decay": Choice((1, 20)),
        "alpha": Interval(0.05, 0.5),
        "lam": Interval(0.1, 2.0),
        "drop": Interval(min(0.1, settings.drop), max(0.8, settings.drop)),
    }


def search_space(cell: Cell, settings: TrainingSettings) -> Space:
    """The part of the declared space that changes a cell: ``norm`` needs a norm and a residual connection, for example.

    Example:
        >>> from gnnlib.benchmarks.depth import Cell, TrainingSettings
        >>> from gnnlib.benchmarks.depth.space import search_space
        >>> list(search_space(Cell("gcn", "batchnorm+residual", 8, 0), TrainingSettings()))
        ['lr', 'width', 'dropout', 'weight_decay', 'norm']
        >>> list(search_space(Cell("gcn", "gcnii", 8, 0), TrainingSettings()))[4:]
        ['block_decay', 'alpha', 'lam']
    """
    remedies = set(cell.remedy.split("+"))
    keywords = make_plan(cell.conv, cell.remedy, 2, (8, 8, 8)).keywords
    absent = {
        "dropout": "dropnode" in remedies,
        "norm": not {"norm", "skip"} <= keywords.keys() or keywords["norm"] is SkipInit,
        "block_decay": not remedies & {"gcnii", "decay-parts"},
        "alpha": not remedies & FIRST_FEATURES,
        "lam": "gcnii" not in remedies,
        "drop": not remedies & DROPS,
    }
    return {name: part for name, part in declared_space(settings).items() if not absent.get(name)}


def common_params(cell: Cell, settings: TrainingSettings) -> dict[str, Any]:
    """The hyperparameters of a cell in the untuned study, as a point of its search space.

    Example:
        >>> from gnnlib.benchmarks.depth import Cell, TrainingSettings
        >>> from gnnlib.benchmarks.depth.space import common_params
        >>> common_params(Cell("gcn", "none", 8, 0), TrainingSettings())
        {'lr': 0.01, 'width': 64, 'dropout': 0.0, 'weight_decay': 0.0}
    """
    remedies = set(cell.remedy.split("+"))
    values = {
        "lr": settings.lr,
        "width": settings.width,
        "dropout": settings.drop if "dropout" in remedies else 0.0,
        "weight_decay": settings.weight_decay if remedies & {"decay", "decay-parts"} else 0.0,
        "norm": "after" if "norm-after" in remedies else "before",
        "block_decay": 20 if "decay-parts" in remedies else 1,
        "alpha": 0.1,
        "lam": 0.5,
        "drop": settings.drop,
    }
    return {name: values[name] for name in search_space(cell, settings)}
