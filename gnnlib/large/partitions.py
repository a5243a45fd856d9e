"""A graph that is larger than a machine: cut into parts, one a host, and trained on by the layers of this library.

The engine is DistDGL (Zheng et al. 2020, arXiv 2010.05337): METIS cuts, a server on each host holds its part, trainers
sample from all of them and fetch the features they need. What is here feeds that to `gnnlib.train.loop.fit`; weights
are kept equal as in any training of several processes (`gnnlib.train.distributed`). ``docs/distributed.md`` says how to
start it.

    partition(graph, split, 2, "parts")                                 # once, anywhere
    with joined():                                                      # in every trainer
        graph = connect("parts")
        fit(model, sampled(graph, [10, 10], 1000), ...)
        print(share_right(model, graph, "test"))
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

from gnnlib._platform.dgl import dgl
from gnnlib.large.inference import layered
from gnnlib.large.sampling import quiet
from gnnlib.nn.stack import Stack
from gnnlib.train.distributed import all_gather_object, all_reduce_sum
from gnnlib.train.loop import Batch

__all__ = ["connect", "infer", "part_config", "partition", "sampled", "share_right"]

PARTS = ("train", "valid", "test")


def partition(
    graph: dgl.DGLGraph,
    split: Mapping[str, Tensor],
    num_parts: int,
    folder: str | os.PathLike[str],
    name: str = "graph",
) -> Path:
    """Cut a graph by METIS (Karypis and Kumar 1998) so that few edges cross, and each part has about as many training
    nodes and edges; write a folder for each part, and ``name.json``, which is returned.

    Each part holds its nodes, their in-edges, and the numbers (not the features) of the sources of those in other
    parts. Nodes are numbered anew, part by part.

    Args:
        graph: on the CPU, one node type; ndata ``feat`` (N, F) and ``label`` (N,)
        split: ids of the nodes in ``"train"``, ``"valid"`` and ``"test"``
        num_parts: hosts
        name: of the graph in the hosts' shared memory, where two of one name would collide

    Raises: ValueError for fewer parts than 1 or more than nodes, missing features or parts.
    """
    if not 1 <= num_parts <= graph.num_nodes():
        raise ValueError(f"partition: expected 1 to {graph.num_nodes()} parts, one node in each, got {num_parts}")
    missing = [key for key in ("feat", "label") if key not in graph.ndata] + [p for p in PARTS if p not in split]
    if missing:
        raise ValueError(f"partition: expected ndata feat, label and ids of {', '.join(PARTS)}, got no {missing}")
    whole = dgl.graph(graph.edges(order="eid"), num_nodes=graph.num_nodes())
    for key in ("feat", "label"):
        whole.ndata[key] = graph.ndata[key]
    for part in PARTS:
        whole.ndata[part] = torch.zeros(graph.num_nodes(), dtype=torch.bool)
        whole.ndata[part][split[part]] = True
    with quiet():
        dgl.distributed.partition_graph(
            whole,
            name,
            num_parts,
            str(folder),
            balance_ntypes=whole.ndata["train"].long() if num_parts > 1 else None,
            balance_edges=num_parts > 1,
        )
    return Path(folder) / f"{name}.json"


def part_config(folder: str | os.PathLike[str]) -> tuple[Path, dict[str, Any]]:
    """The note that `partition` wrote, and what it says (``graph_name``, ``num_parts``, ...).

    Raises: ValueError where there is none, or more than one.
    """
    found = sorted(Path(folder).glob("*.json"))
    if len(found) != 1:
        names = [path.name for path in found]
        raise ValueError(f"expected one partitioned graph in {folder}, its NAME.json among the parts, got {names}")
    return found[0].absolute(), json.loads(found[0].read_text())


def connect(folder: str | os.PathLike[str]) -> Any:
    """The ``dgl.distributed.DistGraph`` of `partition`, over the servers that the environment names; where it names
    none, a graph of a single part in this process. In a server, this is the server, and returns when it ends.

    At exit all trainers meet and the servers end; within `gnnlib.train.distributed.process_group`, one that failed
    ends at once instead: another may be gone, for whom DGL would wait.
    """
    path, config = part_config(folder)
    with quiet():
        dgl.distributed.initialize(os.environ.get("DGL_IP_CONFIG", ""))
        if os.environ.get("DGL_DIST_MODE") == "distributed":
            atexit.unregister(dgl.distributed.exit_client)
            atexit.register(_leave)
        return dgl.distributed.DistGraph(config["graph_name"], part_config=str(path))


def _leave() -> None:
    sys.stdout.flush()
    with quiet():
        dgl.distributed.exit_client()


def sampled(graph: Any, fanouts: Sequence[int], batch_size: int) -> Callable[[], Iterator[Batch]]:
    """Batches for `gnnlib.train.loop.fit`: the training nodes that lie nearest to this process, in a random order, each
    batch with as many in-edges at random as ``fanouts`` say, layer by layer, -1 for all.

    A batch's graph is a list of blocks for a `Stack`. All processes have equally many: at most one node is left out.

    Args:
        graph: from `connect`
        fanouts: one for each layer, the first layer's first
        batch_size: nodes of this process
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


@torch.no_grad()
def infer(model: Stack, graph: Any, batch_size: int = 10_000) -> tuple[Tensor, Tensor]:
    """The ids of this process's nodes, and the model's outputs for them, in evaluation mode and with all neighbours.

    One layer after the other for all nodes of the graph, so nothing is computed twice; between layers, all wait.

    Args:
        model: a `Stack` of layers that need no edge features, without a jump
        batch_size: destinations at a time

    Raises: as `gnnlib.large.inference.layerwise_inference`, for what needs to see more than the in-edges of some nodes;
    ValueError for a jump.
    """
    layered(model)
    if model.jump is not None:
        raise ValueError(f"infer: expected a Stack without jump, got {model.jump}")
    was_training = model.training
    model.eval()
    everyone = torch.ones(graph.num_nodes(), dtype=torch.bool)
    ids = dgl.distributed.node_split(everyone, graph.get_partition_book(), force_even=False)
    feat = table = graph.ndata["feat"]
    for layer, block in enumerate(model.blocks):
        found = []
        for inputs, _, (hop,) in _loader(graph, ids, [-1], batch_size):
            x0 = None if model.encoder is None else model.encoder(feat[inputs])
            found.append(block(hop, table[inputs] if x0 is None or layer else x0, None, x0))
        outputs = torch.cat(found)
        if layer < len(model.blocks) - 1:
            table = dgl.distributed.DistTensor((graph.num_nodes(), outputs.shape[1]), outputs.dtype)
            table[ids] = outputs
            graph.barrier()
    outputs = outputs if model.head is None else model.head(outputs)
    model.train(was_training)
    return ids, outputs


def share_right(model: Stack, graph: Any, *parts: str, batch_size: int = 10_000) -> list[float]:
    """Of the nodes of each part, the share that the model classifies as labelled, over all processes."""
    ids, outputs = infer(model, graph, batch_size)
    right = outputs.argmax(-1) == graph.ndata["label"][ids]
    shares = []
    for part in parts:
        counted = graph.ndata[part][ids].bool()
        hits, num = all_reduce_sum(float((right & counted).sum()), float(counted.sum()))
        shares.append(hits / max(num, 1.0))
    return shares
