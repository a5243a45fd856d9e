"""The ``result.json`` of a layer, as the report, ``run`` and ``run --config`` read it."""

import json
import math

from gnnlib._utils.documents import seal
from gnnlib.benchmarks.configuration import read_config
from gnnlib.benchmarks.errors import UsageError
from gnnlib.benchmarks.records.results import Outcome, ResultStore
from gnnlib.benchmarks.report import figures_table, leaderboard_table, load_results
from tests.attack.kinds import Kind, Mutation
from tests.attack.mutators import damage, mutated, nested

__all__ = ["Results"]

HEADER = {
    "task": "digits",
    "layer": "gcn",
    "title": "GCN",
    "summary": "small images",
    "arguments": {"epochs": None, "limit": None, "device": "cpu"},
    "metric": {"name": "test accuracy", "unit": "%", "higher_is_better": True},
    "published": {"value": 97.5, "std": None, "source": "Somebody 2018", "setting": ""},
    "readout": "mean",
    "classes": ["zero", "one"],
    "versions": {"torch": "2.13.0", "dgl": "2.1.0"},
    "commit": "c0ffee123456",
    "machine": "2 cores",
    "command": "python -m benchmarks run digits --layers gcn --seeds 2",
}
CURVE = {"epoch": [1, 2], "loss": [2.0, 1.0]}
OUTCOMES = [
    Outcome(score, 100, validation=91.0, curve=CURVE, confusion=[[3, 1], [0, 4]], seconds=1.5, figures={"error": 0.5})
    for score in (90.0, 94.0)
]


class Results(Kind):
    names = ("result.json",)
    errors = (ValueError,)

    def make(self, variant, folder):
        store = ResultStore(folder / "gcn", HEADER)
        for seed, outcome in enumerate(OUTCOMES):
            store.add(seed, outcome)

    def mutate(self, variant, folder, draw):
        path = folder / "gcn" / "result.json"
        kind = draw.choice(["bytes", "bytes", "values", "forged", "forged", "nested"])
        if kind == "bytes":
            return Mutation(damage(path, draw))
        document = json.loads(path.read_text())
        if kind == "nested":
            text = path.read_text().rstrip()[:-1]
            path.write_text(f'{text}, "more": {nested(draw.choice([100, 900, 10**5]))}}}')
            return Mutation(kind)
        document = mutated(document, draw)
        path.write_text(json.dumps(seal(document) if kind == "forged" else document))
        return Mutation(kind, forged=kind == "forged")

    def read(self, variant, folder, mutation):
        """What each reader makes of it; an error if all refuse it."""
        results, problems = load_results(folder)
        if results:
            leaderboard_table(results), figures_table(results)
        try:
            config = read_config(folder / "gcn" / "result.json")
        except UsageError as error:
            config, problems = None, [*problems, str(error)]
        store = ResultStore(folder / "gcn", HEADER)
        store.open()
        values = {"results": results, "config": config, "entries": store.entries}
        values = {name: plain(value) for name, value in values.items() if value}
        if not values:
            raise ValueError("; ".join(problems))
        if mutation.what == "none":
            self.intact = values
        same = all(values[name] == self.intact[name] for name in values)  # a reader may refuse what another accepts
        return self.intact if same else values


def plain(value):
    """NaN equals itself."""
    if isinstance(value, Outcome):
        value = vars(value)
    if isinstance(value, float) and math.isnan(value):
        return "nan"
    if isinstance(value, dict):
        return {name: plain(item) for name, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, (list, tuple)) else value
