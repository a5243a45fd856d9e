"""A task that trains in a moment, for the runner's tests; ``python -m tests.benchmarks.fake_task`` is its command line.

FAKE_STOP=PLACE:LAYER:SEED ends the process there: ``train`` kills it between two epochs, ``interrupt`` is a Ctrl-C at
the same place, ``write`` kills it while the result is half written.
"""

import os
import signal
import sys
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import torch
from torch import nn

from gnnlib import Stack
from gnnlib._platform.dgl import dgl
from gnnlib.benchmarks.__main__ import main
from gnnlib.benchmarks.catalog.layers import Geometry
from gnnlib.benchmarks.metrics import accuracy, confusion_matrix, num_parameters
from gnnlib.benchmarks.records.results import Outcome
from gnnlib.benchmarks.tasks import TASKS, Task
from gnnlib.benchmarks.tasks.base import curve
from gnnlib.train.loop import Batch, fit, outputs_and_targets


class Fake(Task):
    """Which of two triangles a node is in, from noise: the figures differ from seed to seed and layer to layer."""

    name = "fake"
    summary = "two triangles"
    layers = ("gcn", "mlp")
    seeds = 2
    max_seeds = 5
    epochs = 4
    limited = True
    one_model = True
    ran: ClassVar[list[tuple[str, int]]] = []  # every training of this process

    def load(self, options):
        triangle = dgl.graph(([0, 1, 2, 1, 2, 0], [1, 2, 0, 0, 1, 2]))
        self.graph = dgl.add_self_loop(dgl.batch([triangle, triangle]))
        self.label = torch.tensor([0, 0, 0, 1, 1, 1])
        self.geometry, self.classes = Geometry(), ["one", "other"]

    def run(self, layer, seed, options, on_epoch):
        self.ran.append((layer.name, seed))
        torch.manual_seed(seed)
        model = Stack.build(layer.make(self.geometry), 8, 8, 2, num_layers=2, dropout=0.2)
        batch = Batch(self.graph, torch.randn(6, 8), self.label)

        def report(record):
            on_epoch(record)
            if record["epoch"] == 2:
                stop("train", layer, seed)
                stop("interrupt", layer, seed)

        records = fit(
            model,
            lambda: [batch],
            nn.functional.cross_entropy,
            torch.optim.Adam(model.parameters(), lr=0.1),
            self.num_epochs(layer, options),
            on_epoch=report,
            **replace(options, checkpoint=None).fitting,
        )
        outputs, target = outputs_and_targets(model, [batch])
        if os.environ.get("FAKE_STOP") == f"write:{layer.name}:{seed}":
            Path.write_text = half_written
        return Outcome(
            score=accuracy(outputs, target) + records[-1]["loss"],  # a figure with all its digits
            parameters=num_parameters(model),
            curve=curve(records),
            confusion=confusion_matrix(outputs, target, 2),
            model=model,
        )


def stop(place, layer, seed):
    if os.environ.get("FAKE_STOP") == f"{place}:{layer.name}:{seed}":
        if place == "interrupt":
            raise KeyboardInterrupt
        os.kill(os.getpid(), signal.SIGKILL)


def half_written(path, text, *args, **kwargs):
    with open(path, "w") as file:
        file.write(text[: len(text) // 2])
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    TASKS["fake"] = Fake
    sys.exit(main())
