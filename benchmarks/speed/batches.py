"""Workloads on many small graphs: batching, and training with a loader and an optimizer.

Batches are drawn at random from a data set too large for the cache, as in training.
"""

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import islice
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import gnnlib
from gnnlib._platform.dgl import dgl
from gnnlib.benchmarks.speed.graphs import Small
from gnnlib.benchmarks.speed.layers import Kind, both_norm, pyg
from gnnlib.benchmarks.speed.measure import Case
from gnnlib.benchmarks.speed.single import CLASSES, Call, forward
from gnnlib.data import GraphStore

WIDTH, DEPTH, BATCHES = 64, 4, 2  # batches in one step
MANY = 32  # batches in a data set


class Path(NamedTuple):
    """The training path of one library: its loader, and a function from a batch to logits and labels."""

    loader: Iterable
    logits: Callable[["Net", Any], tuple[Tensor, Tensor]]


class Net(nn.Module):
    """Layers, mean readout, linear head."""

    def __init__(self, layers: nn.ModuleList, head: nn.Linear):
        super().__init__()
        self.layers, self.head = layers, nn.Linear(head.in_features, head.out_features)
        self.head.load_state_dict(head.state_dict())

    def forward(self, call: Call, x: Tensor, pool: Callable[[Tensor], Tensor]) -> Tensor:
        return self.head(pool(torch.relu(forward(self.layers, call, x))))


def _ours(kind: Kind, small: Small, size: int, order: list[int]) -> Path:
    def logits(net: Net, item: tuple[dgl.DGLGraph, Tensor]) -> tuple[Tensor, Tensor]:
        graph, labels = item
        edges = (graph.edata["feat"],) if kind.edge == "feat" else ()
        pool = partial(gnnlib.readout_mean, graph)
        return net(lambda layer, h: layer(graph, h, *edges), graph.ndata["feat"], pool), labels

    return Path(GraphStore(small.graphs, small.labels).loader(batch_size=size, sampler=order), logits)


def _dgl(kind: Kind, small: Small, size: int, order: list[int]) -> Path:
    mean = dgl.nn.AvgPooling()

    def logits(net: Net, item: tuple[dgl.DGLGraph, Tensor]) -> tuple[Tensor, Tensor]:
        graph, labels = item
        edges = (graph.edata["feat"],) if kind.edge == "feat" else ()
        return net(lambda layer, h: layer(graph, h, *edges), graph.ndata["feat"], partial(mean, graph)), labels

    pairs = list(zip(small.graphs, small.labels, strict=True))
    return Path(dgl.dataloading.GraphDataLoader(pairs, batch_size=size, sampler=order), logits)


def pyg_data(small: Small, norm: bool = False) -> list:
    """The graphs as PyG's Data.

    Args:
        small: the graphs
        norm: add GCN's coefficients as edge weights
    """
    data = []
    for graph, label in zip(small.graphs, small.labels, strict=True):
        item = pyg("data").Data(graph.ndata["feat"], torch.stack(graph.edges()), y=label)
        if "feat" in graph.edata:
            item.edge_attr = graph.edata["feat"]
        if norm:
            item.edge_weight = both_norm(graph)
        data.append(item)
    return data


def _pyg(kind: Kind, small: Small, size: int, order: list[int]) -> Path:
    names = {"norm": ("edge_weight",), "feat": ("edge_attr",), None: ()}[kind.edge]
    mean = pyg().global_mean_pool

    def logits(net: Net, item: Any) -> tuple[Tensor, Tensor]:
        extra = [item[name] for name in names]
        pool = partial(mean, batch=item.batch, size=item.num_graphs)
        return net(lambda layer, h: layer(h, item.edge_index, *extra), item.x, pool), item.y

    data = pyg_data(small, kind.edge == "norm")
    return Path(pyg("loader").DataLoader(data, batch_size=size, sampler=order), logits)


def _dense(kind: Kind, small: Small, size: int, order: list[int]) -> Path:
    """Ready batches of features without graphs."""
    x, labels = torch.stack([small.graphs[i].ndata["feat"] for i in order]), small.labels[order]

    def logits(net: Net, item: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        h, labels = item
        return net(lambda layer, h: layer(h), h.flatten(0, 1), lambda y: y.view(*h.shape[:2], -1).mean(1)), labels

    return Path(list(zip(x.split(size), labels.split(size), strict=True)), logits)


def endless(loader: Iterable) -> Iterator:
    """The batches of a loader, again and again."""
    while True:
        yield from loader


def _train(net: Net, path: Path, batches: Iterator, optimizer: torch.optim.Optimizer) -> None:
    for item in islice(batches, BATCHES):
        optimizer.zero_grad(set_to_none=True)
        cross_entropy(*path.logits(net, item)).backward()
        optimizer.step()


def training_case(kind: Kind, make: Callable[[int, int], Small], size: int, many: int = MANY) -> Case:
    """Training steps with loader and optimizer, on `BATCHES` of the ``many`` batches of ``make(count, classes)``."""
    torch.manual_seed(0)
    small = make(size * many, CLASSES)
    order = torch.randperm(size * many).tolist()
    layers = kind.layers([small.graphs[0].ndata["feat"].shape[1], *[WIDTH] * DEPTH])
    head = nn.Linear(WIDTH, CLASSES)
    ways = {"ours": _ours, "dgl": _dgl, "pyg": _pyg, "dense": _dense}
    case = Case({}, batches=BATCHES)
    for way, nets in layers.items():
        name, net, path = "gnnlib" if way == "ours" else way, Net(nets, head), ways[way](kind, small, size, order)
        # Adam with a learning rate of 0: the same work, and the weights stay those whose outputs were compared
        optimizer = torch.optim.Adam(net.parameters(), lr=0.0)
        case.steps[name] = partial(_train, net, path, endless(path.loader), optimizer)
        if way != "dense":
            case.outputs[name] = partial(_first, net, path)
    return case


def _first(net: Net, path: Path) -> Tensor:
    return path.logits(net, next(iter(path.loader)))[0]


def batching_case(make: Callable[[int, int], Small], size: int) -> Case:
    """Batching alone; ours includes the adjacency, which other libraries build in the first layer."""
    small = make(size * MANY, CLASSES)
    store, data = GraphStore(small.graphs), pyg_data(small) if pyg() else []
    draws = torch.randperm(size * MANY, generator=torch.Generator().manual_seed(0)).split(size)
    ways: dict[str, Callable[[Tensor], Any]] = {
        "gnnlib": store.batch,
        "dgl": lambda draw: dgl.batch([small.graphs[i] for i in draw.tolist()]),
    }
    if pyg():
        ways["pyg"] = lambda draw: pyg("data").Batch.from_data_list([data[i] for i in draw.tolist()])
    steps: dict[str, Callable[[], object]] = {
        name: partial(lambda way, turns: way(next(turns)), way, endless(draws)) for name, way in ways.items()
    }
    return Case(steps, {name: partial(_contents, way, draws[0]) for name, way in ways.items()})


def _contents(way: Callable[[Tensor], Any], draw: Tensor) -> Tensor:
    """The edges and features of a batched graph as one vector, for comparison."""
    batch = way(draw)
    if isinstance(batch, dgl.DGLGraph):
        parts = [*batch.edges(), batch.ndata["feat"], batch.edata["feat"]]
    else:
        parts = [*batch.edge_index, batch.x, batch.edge_attr]
    return torch.cat([part.flatten().float() for part in parts])
