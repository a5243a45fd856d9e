"""Training on parts of a graph that is too large for one step: sampled neighbours, or clusters. What a model so
trained says of all nodes is `gnnlib.large.inference`'s.

What an average over some neighbours estimates is the average over all of them. So layers that average train here as
they are: `SAGEConv`, `GATConv`, ``GCNConv(norm="right")``. GCN itself, which divides by the degrees of both ends, is
the last of these with `gcn_edge_weights` as ``edge``.
"""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from io import StringIO

import torch
from torch import Tensor

from gnnlib._platform.dgl import dgl
from gnnlib.graph import edge_endpoints
from gnnlib.large.inference import Rows
from gnnlib.train.distributed import rank, shard, shards, world_size
from gnnlib.train.loop import Batch

__all__ = ["cluster_batches", "clusters", "gcn_edge_weights", "sampled_batches"]


def gcn_edge_weights(graph: dgl.DGLGraph) -> Tensor:
    r"""The weights (E,) with which the mean over in-edges is GCN's sum: sqrt(d_v / d_u), with d counted in this graph.

    .. math:: \frac{1}{d_v} \sum_{u \to v} \sqrt{d_v / d_u} \, x_u = \sum_{u \to v} \frac{x_u}{\sqrt{d_u d_v}}

    On the right is GCN (Kipf and Welling 2017, arXiv 1609.02907, equation 2), on the left ``GCNConv(norm="right")``: a
    mean, which sampled neighbours estimate without bias, and in which no degree of a source is asked for.

    >>> from gnnlib import GCNConv
    >>> g, x = dgl.graph(([0, 1, 2, 2], [2, 2, 0, 1])), torch.rand(3, 4)
    >>> gcn, mean = GCNConv(4, 2), GCNConv(4, 2, norm="right")
    >>> _ = mean.load_state_dict(gcn.state_dict())
    >>> torch.allclose(mean(g, x, gcn_edge_weights(g)), gcn(g, x))
    True
    """
    src, dst = edge_endpoints(graph)  # without index arrays, which a sampled training has no use for
    out, into = (torch.bincount(ends).clamp(1).double() for ends in (src, dst))
    return into.sqrt().float().index_select(0, dst) * out.rsqrt().float().index_select(0, src)


def sampled_batches(
    graph: dgl.DGLGraph,
    x: Rows,
    target: Tensor,
    nodes: Tensor,
    fanouts: Sequence[int],
    batch_size: int,
    generator: torch.Generator,
    *,
    edge: Tensor | None = None,
    num_workers: int = 0,
    device: torch.device | str = "cpu",
) -> Iterator[Batch]:
    """One epoch over ``nodes`` in random order, each batch with a few neighbours of its nodes, and of those, and so on
    (GraphSAGE: Hamilton et al. 2017, arXiv 1706.02216, algorithm 2), by DGL's ``NeighborSampler`` and ``DataLoader``.

    For `gnnlib.train.loop.fit` with a `Stack`: ``lambda: sampled_batches(...)``.

    Args:
        graph: on the CPU
        x: features by node id: a tensor, the `Table` of a file, ...
        target: (N, ...) by node id
        nodes: ids of those that count
        fanouts: at most so many in-neighbours of each node, the first layer's first; -1 for all; one a layer
        generator: of the order and of the samples: give it to ``fit`` too, which keeps its state in checkpoints
        edge: weights or features of all edges, for layers that take them
        num_workers: processes that sample ahead; the samples depend on their number, as on PyTorch's threads

    >>> g = dgl.rand_graph(50, 200)
    >>> some = torch.Generator().manual_seed(0)
    >>> batches = sampled_batches(g, torch.rand(50, 8), torch.arange(50), torch.arange(10), [3, 3], 4, some)
    >>> [(len(batch.graph), batch.graph[-1].num_dst_nodes()) for batch in batches]
    [(2, 4), (2, 4), (2, 2)]
    """
    order = nodes[torch.randperm(len(nodes), generator=generator)]
    order = order[: len(order) - len(order) % world_size()]  # so that all processes have as many batches
    seed = int(torch.randint(2**31 - 2**16, (), generator=generator)) + rank()

    def begin(worker: int) -> None:
        dgl.seed(seed + world_size() * (worker + 1))

    dgl.seed(seed)
    loader = dgl.dataloading.DataLoader(
        graph,
        shard(order).to(graph.idtype),
        # DGL's fused sampler, which it takes on several threads, mixes up the ids of graphs in int32.
        dgl.dataloading.NeighborSampler(list(fanouts), fused=graph.idtype == torch.int64),
        batch_size=-(-batch_size // world_size()),
        num_workers=num_workers,
        worker_init_fn=begin,
    )
    with quiet():
        found = iter(loader)
    for inputs, outputs, blocks in found:
        edges = None if edge is None else [edge[block.edata[dgl.EID].long()].to(device) for block in blocks]
        yield Batch(blocks, x[inputs.long()].to(device), target[outputs.long()].to(device), edges)


@contextmanager
def quiet() -> Iterator[None]:
    """Without DGL's advice on CPU affinity and its timings of METIS."""
    with warnings.catch_warnings(), redirect_stdout(StringIO()):
        warnings.filterwarnings("ignore", message="Dataloader CPU affinity opt is not enabled")
        warnings.simplefilter("ignore", ResourceWarning)  # METIS' timings leave a file open
        yield


def clusters(graph: dgl.DGLGraph, number: int) -> Tensor:
    """The cluster of each node (N,), int64, 0 to number - 1: METIS cuts few edges (Karypis and Kumar 1998).

    Raises: ValueError for fewer than one cluster, or fewer nodes than clusters.

    >>> ring = torch.arange(100)
    >>> clusters(dgl.graph((ring, ring.roll(1))), 2).bincount().tolist()
    [50, 50]
    """
    if not 1 <= number <= graph.num_nodes():
        raise ValueError(f"clusters: expected a number from 1 to {graph.num_nodes()}, that of nodes, got {number}")
    if number == 1:  # METIS divides by its logarithm
        return torch.zeros(graph.num_nodes(), dtype=torch.int64)
    with quiet():
        return dgl.metis_partition_assignment(graph.long(), number)


def cluster_batches(
    graph: dgl.DGLGraph,
    x: Rows,
    target: Tensor,
    nodes: Tensor,
    cluster: Tensor,
    batch_size: int,
    generator: torch.Generator,
    *,
    edge: Tensor | None = None,
    device: torch.device | str = "cpu",
) -> Iterator[Batch]:
    """One epoch over all clusters in random order, some at a time with all edges among them (Cluster-GCN: Chiang et al.
    2019, arXiv 1905.07953, section 3.2). A batch is left out where a process would have none of ``nodes`` in it.

    Args:
        nodes: ids of those that count
        cluster: of each node, as of `clusters`
        batch_size: so many clusters
        generator: of the order

    Differs from the paper: averages are taken over the neighbours that are there (its section 3.3 does so too), not
    over all.

    >>> g = dgl.rand_graph(50, 200)
    >>> some = torch.Generator().manual_seed(0)
    >>> x, label, train, cluster = torch.rand(50, 8), torch.arange(50), torch.arange(10), torch.arange(50) % 5
    >>> batches = cluster_batches(g, x, label, train, cluster, 2, some)
    >>> [(batch.graph.num_nodes(), len(batch.target)) for batch in batches]
    [(20, 4), (20, 4), (10, 2)]
    """
    counts = torch.zeros(graph.num_nodes(), dtype=torch.bool)
    counts[nodes] = True
    members = cluster.argsort(stable=True).split(torch.bincount(cluster).tolist())
    asked = torch.zeros(len(members), dtype=torch.bool)
    asked[cluster[nodes]] = True
    for some in torch.randperm(len(members), generator=generator).split(batch_size):
        if all(bool(asked[share].any()) for share in shards(some)):
            within = torch.cat([members[i] for i in shard(some).tolist()])
            rows = counts[within].nonzero().squeeze(1)
            part = dgl.node_subgraph(graph, within.to(graph.idtype))
            edges = None if edge is None else edge[part.edata[dgl.EID].long()].to(device)
            yield Batch(part, x[within].to(device), target[within[rows]].to(device), edges, rows.to(device))
