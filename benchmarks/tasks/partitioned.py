"""Node classification on a graph in parts, one a host (DistDGL)."""

from functools import cached_property
from typing import Any, ClassVar

import torch
from torch import nn

from gnnlib import BatchNorm, Stack
from gnnlib.benchmarks.catalog.layers import LayerSpec
from gnnlib.benchmarks.errors import UsageError
from gnnlib.benchmarks.tasks.base import Options, Records
from gnnlib.benchmarks.tasks.training import Training, TrainingTask
from gnnlib.large.partitions import dist_accuracy, dist_batches, open_dist_graph, part_config
from gnnlib.train.distributed import all_gather_object, world_size


class Partitioned(TrainingTask):
    """The network and the steps of the task ``planted`` with ``--mode sampled``; validated and tested with all
    neighbours, one layer after the other. What servers sample follows from no seed: two runs differ a little."""

    name = "partitioned"
    summary = "a graph that 'partition' cut into --data DIR, one part a host; 'host' starts it (one part: 'run' too)"
    layers = ("sage",)
    seeds = 1
    epochs = 5
    sharded = True
    width: ClassVar[int] = 256
    fanouts: ClassVar[tuple[int, ...]] = (10, 10)
    batch_size: ClassVar[int] = 1024  # of all processes together

    def load(self, options: Options) -> None:
        if options.data is None:
            raise UsageError("--data: expected the folder that 'partition' wrote, got none")
        self.folder = options.data
        _, config = part_config(self.folder)
        self.data = f"{config['graph_name']}-parts{config['num_parts']}"

    @cached_property
    def graph(self) -> Any:
        """Connected when it is first used: all processes have to come."""
        return open_dist_graph(self.folder)

    @cached_property
    def num_classes(self) -> int:
        book = self.graph.get_partition_book()
        return 1 + max(all_gather_object(int(self.graph.ndata["label"][book.partid2nids(book.partid)].max())))

    def training(self, layer: LayerSpec, seed: int, generator: torch.Generator, options: Options) -> Training:
        widths = self.graph.ndata["feat"].shape[1], self.width, self.num_classes
        model = Stack.build(layer.make(self.geometry), *widths, len(self.fanouts), norm=BatchNorm, dropout=0.5)

        def accuracy(part: str) -> float:
            return 100 * dist_accuracy(model, self.graph, part)[0]

        def test(records: Records) -> dict[str, Any]:
            best = max(record["validation"] for record in records)
            return {"score": accuracy("test"), "validation": best}

        return Training(
            model,
            dist_batches(self.graph, fanouts=self.fanouts, batch_size=-(-self.batch_size // world_size())),
            nn.functional.cross_entropy,
            torch.optim.Adam(model.parameters(), lr=0.003),
            test,
            measure=lambda: {"validation": accuracy("valid")},
            score=lambda record: record["validation"],
        )
