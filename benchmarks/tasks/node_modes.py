"""How much of a graph is in one step of training: all of it, sampled neighbours, clusters, or rows without a graph."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from gnnlib._platform.dgl import dgl
from gnnlib.benchmarks.tasks.base import predict
from gnnlib.graph import GraphLike
from gnnlib.large.inference import layerwise_inference
from gnnlib.large.precomputed import row_batches
from gnnlib.large.sampling import cluster_batches, clusters, sampled_batches
from gnnlib.train.loop import Batch

__all__ = ["Clusters", "Full", "Mode", "Rows", "Sampled", "TypedFull", "TypedSampled"]


class Mode(Protocol):
    """``x`` is whatever gives features for node ids: a tensor, `PropagatedFeatures`, `FeaturesWithLabels`."""

    def batches(self, x: Any, target: Tensor, nodes: Tensor, generator: torch.Generator) -> Iterator[Batch]:
        """One epoch, in which the targets of these nodes count."""

    def outputs(self, model: nn.Module, x: Any, nodes: Tensor) -> Tensor:
        """What a trained model says of these nodes (n, C), on the CPU."""


@dataclass
class Full:
    graph: dgl.DGLGraph
    edge: Tensor | None
    device: str

    def _batch(self, x: Any, target: Tensor, nodes: Tensor) -> Batch:
        x = x if isinstance(x, Tensor) else x[torch.arange(self.graph.num_nodes())]
        edge = None if self.edge is None else self.edge.to(self.device)
        return Batch(self.graph, x.to(self.device), target[nodes].to(self.device), edge, nodes.to(self.device))

    def batches(self, x: Any, target: Tensor, nodes: Tensor, generator: torch.Generator) -> Iterator[Batch]:
        yield self._batch(x, target, nodes)

    def outputs(self, model: nn.Module, x: Any, nodes: Tensor) -> Tensor:
        return predict(model, [self._batch(x, nodes.new_empty(self.graph.num_nodes()), nodes)])[0].cpu()


@dataclass
class Sampled:
    graph: dgl.DGLGraph
    edge: Tensor | None
    device: str
    fanouts: tuple[int, ...]
    batch_size: int
    folder: Path  # for a layer's features while the whole graph is asked

    def batches(self, x: Any, target: Tensor, nodes: Tensor, generator: torch.Generator) -> Iterator[Batch]:
        make = partial(sampled_batches, fanouts=self.fanouts, batch_size=self.batch_size)
        return make(self.graph, x, target, nodes, generator=generator, edge=self.edge, device=self.device)

    def outputs(self, model: nn.Module, x: Any, nodes: Tensor) -> Tensor:
        with TemporaryDirectory(dir=self.folder) as layers:
            return layerwise_inference(
                model, self.graph, x, batch_size=2048, edge=self.edge, device=self.device, folder=layers
            )[nodes]


@dataclass
class Clusters(Sampled):
    number: int = 1
    cluster: Tensor = field(init=False)

    def __post_init__(self) -> None:
        self.cluster = clusters(self.graph, self.number)

    def batches(self, x: Any, target: Tensor, nodes: Tensor, generator: torch.Generator) -> Iterator[Batch]:
        make = partial(cluster_batches, cluster=self.cluster, batch_size=self.batch_size)
        return make(self.graph, x, target, nodes, generator=generator, edge=self.edge, device=self.device)


@dataclass
class TypedFull:
    """All of a graph with types. ``x`` has features by node type, or the numbers of nodes that have embeddings."""

    graph: GraphLike
    ntype: str  # of the nodes with targets, and with features
    device: str

    def _batch(self, x: Any, target: Tensor, nodes: Tensor) -> Batch:
        feat = x[self.ntype][torch.arange(self.graph.num_nodes(self.ntype))].to(self.device)
        return Batch(self.graph, {self.ntype: feat}, target[nodes].to(self.device), None, nodes.to(self.device))

    def batches(self, x: Any, target: Tensor, nodes: Tensor, generator: torch.Generator) -> Iterator[Batch]:
        yield self._batch(x, target, nodes)

    def outputs(self, model: nn.Module, x: Any, nodes: Tensor) -> Tensor:
        target = nodes.new_empty(self.graph.num_nodes(self.ntype))
        return predict(model, [self._batch(x, target, nodes)])[0].cpu()


@dataclass
class TypedSampled(TypedFull):
    """Sampled neighbours of each edge type; the whole graph in tests."""

    fanouts: tuple[int, ...]
    batch_size: int

    def batches(self, x: Any, target: Tensor, nodes: Tensor, generator: torch.Generator) -> Iterator[Batch]:
        make = partial(sampled_batches, fanouts=self.fanouts, batch_size=self.batch_size, ntype=self.ntype)
        return make(self.graph, x, target, nodes, generator=generator, device=self.device)


@dataclass
class Rows:
    """For what is learned after the hops."""

    device: str
    batch_size: int

    def batches(self, x: Any, target: Tensor, nodes: Tensor, generator: torch.Generator) -> Iterator[Batch]:
        return row_batches(x, target, nodes, batch_size=self.batch_size, generator=generator, device=self.device)

    def outputs(self, model: nn.Module, x: Any, nodes: Tensor) -> Tensor:
        target = torch.empty(len(x))
        batches = row_batches(x, target, nodes, batch_size=self.batch_size, device=self.device)
        return predict(model, batches)[0].cpu()
