"""Distributed graphs (DistDGL: Zheng et al. 2020, arXiv 2010.05337): a graph that does not fit into the memory of one
machine is partitioned by METIS, one part per host.

A DistDGL server on each host holds its part, and trainers sample neighbours and fetch features from all of them. This
module provides their batches for `gnnlib.train.fit`. Weights are synchronised as in any training with several processes
(`gnnlib.train.distributed`). ``docs/distributed.md`` describes how to start one::

    partition_graph(graph, split, 2, "parts")                           # once, on any machine
    with process_group():                                               # in each trainer
        graph = open_dist_graph("parts")
        fit(model, dist_batches(graph, fanouts=[10, 10], batch_size=1000), ...)
        print(dist_accuracy(model, graph, "test"))
"""

import atexit
import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gnnlib._platform.dgl import check_dgl, dgl
from gnnlib._utils.calls import names_checked
from gnnlib._utils.model_state import evaluation_mode
from gnnlib.graph import GraphLike, takes_graph
from gnnlib.large.inference import check_stack
from gnnlib.large.sampling import quiet
from gnnlib.nn.stack import Stack
from gnnlib.train.distributed import all_gather_object, all_reduce_sum
from gnnlib.train.loop import Batch

__all__ = [
    "dist_accuracy",
    "dist_batches",
    "dist_inference",
    "open_dist_graph",
    "part_config",
    "partition_graph",
]

SPLITS = ("train", "valid", "test")


@names_checked()
@takes_graph()
def partition_graph(
    graph: GraphLike,
    split: Mapping[str, Tensor],
    num_parts: int,
    folder: str | os.PathLike[str],
    *,
    name: str = "graph",
) -> Path:
    """Partitions a graph by METIS (Karypis and Kumar 1998), which minimises the number of edges between parts and
    balances training nodes and edges, and writes a folder per part.

    Each part contains its nodes, their in-edges, and the ids (not the features) of the sources in other parts. Nodes
    get new ids, part by part.

    Args:
        graph: on the CPU, of one node type; ndata ``feat`` (N, F) and ``label`` (N,)
        split: ids of the nodes in ``"train"``, ``"valid"`` and ``"test"``
        num_parts: number of hosts
        folder: for the parts
        name: of the graph in the shared memory of a host, unique there

    Returns:
        the configuration, ``name.json``

    Raises:
        ValueError: for ``num_parts`` below 1 or above the number of nodes, missing features or splits
    """
    if not 1 <= num_parts <= graph.num_nodes():
        raise ValueError(f"partition_graph: expected 1 to {graph.num_nodes()} parts, one node in each, got {num_parts}")
    missing = [key for key in ("feat", "label") if key not in graph.ndata] + [key for key in SPLITS if key not in split]
    if missing:
        raise ValueError(
            f"partition_graph: expected ndata feat, label and ids of {', '.join(SPLITS)}, got no {missing}"
        )
    check_dgl("partition_graph")
    plain = dgl.graph(graph.edges(order="eid"), num_nodes=graph.num_nodes())
    for key in ("feat", "label"):
        plain.ndata[key] = graph.ndata[key]
    for key in SPLITS:
        plain.ndata[key] = torch.zeros(graph.num_nodes(), dtype=torch.bool)
        plain.ndata[key][split[key]] = True
    with quiet():
        dgl.distributed.partition_graph(
            plain,
            name,
            num_parts,
            str(folder),
            balance_ntypes=plain.ndata["train"].long() if num_parts > 1 else None,
            balance_edges=num_parts > 1,
        )
    return Path(folder) / f"{name}.json"


@names_checked()
def part_config(folder: str | os.PathLike[str]) -> tuple[Path, dict[str, Any]]:
    """The configuration that `partition_graph` wrote.

    Args:
        folder: of the parts

    Returns:
        its path, and its content (``graph_name``, ``num_parts``, ...)

    Raises:
        ValueError: if there is none, or more than one
    """
    paths = sorted(Path(folder).glob("*.json"))
    if len(paths) != 1:
        names = [path.name for path in paths]
        raise ValueError(f"expected one partitioned graph in {folder}, its NAME.json among the parts, got {names}")
    return paths[0].absolute(), json.loads(paths[0].read_text())


@names_checked()
def open_dist_graph(folder: str | os.PathLike[str]) -> Any:
    """The ``dgl.distributed.DistGraph`` of `partition_graph`, connected to the servers that DGL's environment variables
    name. Without them, a graph of a single part in this process. In a server process this call is the server, and
    returns at its end.

    At exit all trainers wait for one another and the servers end. Within `gnnlib.train.distributed.process_group`, a
    trainer that fails exits at once instead, because DGL would wait for processes that may have ended.

    Args:
        folder: of the parts

    Returns:
        the graph
    """
    check_dgl("open_dist_graph")
    path, config = part_config(folder)
    with quiet():
        dgl.distributed.initialize(os.environ.get("DGL_IP_CONFIG", ""))
        if os.environ.get("DGL_DIST_MODE") == "distributed":
            atexit.unregister(dgl.distributed.exit_client)
            atexit.register(_exit_client)
        return dgl.distributed.DistGraph(config["graph_name"], part_config=str(path))


def _exit_client() -> None:
    sys.stdout.flush()
    with quiet():
        dgl.distributed.exit_client()


@names_checked()
def dist_batches(graph: Any, *, fanouts: Sequence[int], batch_size: int) -> Callable[[], Iterator[Batch]]:
    """Batches of neighbour sampling for `gnnlib.train.fit`: the training nodes of this process, in random order.

    Each process gets the training nodes that are closest to it. All processes have the same number of
    batches; at most one node is skipped.

    Args:
        graph: of `open_dist_graph`
        fanouts: maximum number of in-neighbours per node, one per layer, the first layer's first; -1 for all
        batch_size: training nodes per batch of this process

    Returns:
        a function that returns the batches of one epoch, whose graph is a list of message-flow graphs (DGL blocks)
    """
    ids = dgl.distributed.node_split(graph.ndata["train"], graph.get_partition_book(), force_even=True)
    ids = ids[: min(all_gather_object(len(ids)))]
    loader = _loader(graph, ids, fanouts, batch_size, shuffle=True)

    def batches() -> Iterator[Batch]:
        for inputs, outputs, blocks in loader:
            yield Batch(blocks, graph.ndata["feat"][inputs], graph.ndata["label"][outputs])

    return batches


def _loader(graph: Any, ids: Tensor, fanouts: Sequence[int], batch_size: int, shuffle: bool = False) -> Any:
    sampler = dgl.dataloading.NeighborSampler(list(fanouts))
    return dgl.dataloading.DistNodeDataLoader(graph, ids, sampler, batch_size=batch_size, shuffle=shuffle)


@names_checked()
@torch.no_grad()
def dist_inference(model: Stack, graph: Any, *, batch_size: int = 10_000) -> tuple[Tensor, Tensor]:
    """Layer-wise inference: the outputs for the nodes of this process, in evaluation mode and with all neighbours.

    Each layer is computed for all nodes before the next one; after each layer, the processes wait for one another.

    Args:
        model: a `Stack` of layers without edge features, and without a jump
        graph: of `open_dist_graph`
        batch_size: destination nodes per batch

    Returns:
        the ids of the nodes of this process, and their outputs

    Raises:
        TypeError: as `gnnlib.large.layerwise_inference`
        ValueError: as `gnnlib.large.layerwise_inference`, and for a jump
    """
    check_stack(model)
    if model.jump is not None:
        raise ValueError(f"dist_inference: expected a Stack without jump, got {model.jump}")
    with evaluation_mode(model):
        all_nodes = torch.ones(graph.num_nodes(), dtype=torch.bool)
        ids = dgl.distributed.node_split(all_nodes, graph.get_partition_book(), force_even=False)
        feat = features = graph.ndata["feat"]
        for layer, block in enumerate(model.blocks):
            parts = []
            for inputs, _, (mfg,) in _loader(graph, ids, [-1], batch_size):
                x0 = None if model.encoder is None else model.encoder(feat[inputs])
                parts.append(block(mfg, features[inputs] if x0 is None or layer else x0, None, x0))
            outputs = torch.cat(parts)
            if layer < len(model.blocks) - 1:
                features = dgl.distributed.DistTensor((graph.num_nodes(), outputs.shape[1]), outputs.dtype)
                features[ids] = outputs
                graph.barrier()
        outputs = outputs if model.head is None else model.head(outputs)
    return ids, outputs


@names_checked()
def dist_accuracy(model: Stack, graph: Any, *splits: str, batch_size: int = 10_000) -> list[float]:
    """The accuracy of a model on splits of the nodes, over all processes.

    Args:
        model: a `Stack`
        graph: of `open_dist_graph`
        splits: names of `partition_graph`'s ``split``
        batch_size: destination nodes per batch

    Returns:
        the accuracy on each split, from 0 to 1
    """
    ids, outputs = dist_inference(model, graph, batch_size=batch_size)
    is_correct = outputs.argmax(-1) == graph.ndata["label"][ids]
    accuracies = []
    for split in splits:
        in_split = graph.ndata[split][ids].bool()
        correct, total = all_reduce_sum(float((is_correct & in_split).sum()), float(in_split.sum()))
        accuracies.append(correct / max(total, 1.0))
    return accuracies
