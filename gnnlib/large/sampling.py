"""Mini-batches of a large graph: neighbour sampling (GraphSAGE: Hamilton et al. 2017, arXiv 1706.02216) and clusters
(Cluster-GCN: Chiang et al. 2019, arXiv 1905.07953).

The average over sampled neighbours estimates the average over all neighbours. Therefore layers that average can be
trained in this way as they are: `SAGEConv`, `GATConv`, ``GCNConv(norm="right")``. `GCNConv` with ``norm="both"``,
which divides by the degrees of both endpoints, is equal to ``norm="right"`` with `gcn_edge_weights` as ``edge``.
`gnnlib.large.layerwise_inference` evaluates the trained model on all nodes.
"""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from io import StringIO
from typing import Any

import torch
from torch import Tensor

from gnnlib._platform.dgl import check_dgl, dgl
from gnnlib._utils.calls import names_checked
from gnnlib._utils.indices import as_indices
from gnnlib.graph import EID, GraphLike, as_dgl, edge_endpoints, node_subgraph, relation_graph, takes_graph
from gnnlib.graph._check import check_graph, graph_error
from gnnlib.large.inference import FeatureRows, check_rows
from gnnlib.nn._arguments import integer
from gnnlib.train.distributed import rank, shard, shards, world_size
from gnnlib.train.loop import Batch

__all__ = ["cluster_batches", "clusters", "gcn_edge_weights", "sampled_batches"]


@names_checked()
@takes_graph()
def gcn_edge_weights(graph: GraphLike) -> Tensor:
    r"""Edge weights with which the mean over in-edges equals the sum of GCN: sqrt(d_v / d_u), with d the in-degree of v
    and the out-degree of u in this graph.

    .. math:: \frac{1}{d_v} \sum_{u \to v} \sqrt{d_v / d_u} \, x_u = \sum_{u \to v} \frac{x_u}{\sqrt{d_u d_v}}

    The right side is GCN (Kipf and Welling 2017, arXiv 1609.02907, equation 2), the left side ``GCNConv(norm="right")``
    with these weights: a mean, which sampled neighbours estimate without bias, and which needs no degree of a source.

    Args:
        graph: with all edges

    Returns:
        weights (E,)

    Example:
        >>> import torch
        >>> from gnnlib import GCNConv
        >>> from gnnlib.large import gcn_edge_weights
        >>> import dgl
        >>> g, x = dgl.graph(([0, 1, 2, 2], [2, 2, 0, 1])), torch.rand(3, 4)
        >>> gcn, mean = GCNConv(4, 2), GCNConv(4, 2, norm="right")
        >>> _ = mean.load_state_dict(gcn.state_dict())
        >>> torch.allclose(mean(g, x, gcn_edge_weights(g)), gcn(g, x))
        True
    """
    src, dst = edge_endpoints(graph)  # without the adjacency, which sampling does not need
    out_degree, in_degree = (torch.bincount(nodes).clamp(1).double() for nodes in (src, dst))
    return in_degree.sqrt().float().index_select(0, dst) * out_degree.rsqrt().float().index_select(0, src)


@names_checked(num_neighbors="fanouts=", seed="generator=torch.Generator().manual_seed(0)", edge_weight="edge=")
@takes_graph()
def sampled_batches(
    graph: GraphLike,
    x: FeatureRows | Mapping[str, FeatureRows],
    target: Tensor,
    nodes: Tensor,
    *,
    fanouts: Sequence[int],
    batch_size: int,
    generator: torch.Generator,
    edge: Tensor | Mapping[Any, Tensor] | None = None,
    ntype: str | None = None,
    num_workers: int = 0,
    device: torch.device | str = "cpu",
) -> Iterator[Batch]:
    """One epoch of neighbour sampling (GraphSAGE: Hamilton et al. 2017, arXiv 1706.02216, algorithm 2) over ``nodes``
    in random order, by DGL's ``NeighborSampler`` and ``DataLoader``.

    For `gnnlib.train.fit` with a `Stack`: ``lambda: sampled_batches(...)``.

    Args:
        graph: on the CPU
        x: features by node id: a tensor, a `NpyMatrix`, ...; of a graph with types a dict of these by node type. For
            a type with a learned embedding, pass the numbers of its nodes, ``torch.arange(num)``
        target: (N, ...) by node id
        nodes: the training nodes, as numbers or as a boolean mask
        fanouts: maximum number of in-neighbours per node, one per layer, the first layer's first; -1 for all. In a
            graph with types, per edge type
        batch_size: training nodes per batch
        generator: of the order and of the samples; if ``fit`` gets it too, checkpoints contain its state
        edge: weights or features of all edges, for layers that take them; of a graph with types a dict by edge type
        ntype: of a graph with types, the type of the training nodes
        num_workers: processes that sample ahead; the samples depend on their number, and on the number of PyTorch's
            threads
        device: of the batches

    Returns:
        batches whose graph is a list of message-flow graphs (DGL blocks), one per layer

    Example:
        >>> import torch
        >>> from gnnlib.large import sampled_batches
        >>> import dgl
        >>> graph, x, label = dgl.rand_graph(50, 200), torch.rand(50, 8), torch.arange(50)
        >>> generator = torch.Generator().manual_seed(0)
        >>> batches = sampled_batches(
        ...     graph, x, label, torch.arange(10), fanouts=[3, 3], batch_size=4, generator=generator
        ... )
        >>> [(len(batch.graph), batch.graph[-1].num_dst_nodes()) for batch in batches]
        [(2, 4), (2, 4), (2, 2)]
    """
    check_dgl("sampled_batches")
    num_nodes = _check_data(graph, x, target, edge, ntype)
    if not isinstance(fanouts, (list, tuple)):
        raise TypeError(
            f"sampled_batches: expected fanouts to be a list, a number per layer, [10, 10], got {fanouts!r}"
        )
    fanouts = [integer("sampled_batches", "fanouts", fanout, minimum=-1) for fanout in fanouts]
    batch_size = integer("sampled_batches", "batch_size", batch_size)
    nodes = as_indices(nodes, num_nodes, "sampled_batches: nodes")
    order = nodes[torch.randperm(len(nodes), generator=generator)]
    order = order[: len(order) - len(order) % world_size()]  # so that all processes have the same number of batches
    seed = int(torch.randint(2**31 - 2**16, (), generator=generator)) + rank()

    def seed_worker(worker: int) -> None:
        dgl.seed(seed + world_size() * (worker + 1))

    dgl.seed(seed)
    graph = as_dgl(graph)
    loader = dgl.dataloading.DataLoader(
        graph,
        _by_type(shard(order).to(graph.idtype), ntype),
        # DGL's fused sampler, which it uses with several threads, returns wrong ids for graphs in int32.
        dgl.dataloading.NeighborSampler(list(fanouts), fused=graph.idtype == torch.int64),
        batch_size=-(-batch_size // world_size()),
        num_workers=num_workers,
        worker_init_fn=seed_worker,
    )
    with quiet():
        minibatches = iter(loader)
    for inputs, outputs, blocks in minibatches:
        edges = None if edge is None else [_edges_of(block, edge, device) for block in blocks]
        rows = outputs if ntype is None else outputs[ntype]
        yield Batch(blocks, _rows_of(x, inputs, device), target[rows.long()].to(device), edges)


def _check_data(graph: GraphLike, x: Any, target: Any, edge: Any, ntype: str | None) -> int:
    """Check features, targets and edge values of a graph with or without types.

    Returns:
        the number of nodes that may be training nodes
    """
    owner = "sampled_batches"
    if ntype is None:
        if isinstance(x, Mapping):
            raise TypeError(f"{owner}: expected ntype, the type of the training nodes, with x by type, got none")
        check_graph(owner, graph)
        check_rows(owner, graph, x)
        check_rows(owner, graph, target, "target")
        return graph.num_nodes()
    error = graph_error(owner, graph, types=True)
    if error is not None:
        raise error
    if not isinstance(x, Mapping) or set(x) != set(graph.ntypes):
        got = sorted(x) if isinstance(x, Mapping) else type(x).__name__
        raise TypeError(f"{owner}: expected x to be a dict with the node types {sorted(graph.ntypes)}, got {got}")
    if ntype not in graph.ntypes:
        raise ValueError(f"{owner}: expected ntype to be one of {graph.ntypes}, got {ntype!r}")
    for kind, rows, name in (*((kind, rows, f"x[{kind!r}]") for kind, rows in x.items()), (ntype, target, "target")):
        if len(rows) != graph.num_nodes(kind):
            raise ValueError(f"{owner}: expected {name} of {graph.num_nodes(kind)} rows, got {len(rows)}")
    for etype, values in (edge or {}).items():
        if len(values) != (num_edges := relation_graph(graph, etype).num_edges()):
            raise ValueError(f"{owner}: expected edge[{etype!r}] of {num_edges} rows, got {len(values)}")
    return graph.num_nodes(ntype)


def _by_type(nodes: Tensor, ntype: str | None) -> Any:
    return nodes if ntype is None else {ntype: nodes}


def _rows_of(x: Any, nodes: Any, device: torch.device | str) -> Any:
    """The features of nodes, by type where they are."""
    if isinstance(x, Mapping):
        return {kind: rows[nodes[kind].long()].to(device) for kind, rows in x.items()}
    return x[nodes.long()].to(device)


def _edges_of(block: Any, edge: Any, device: torch.device | str) -> Any:
    """The values of the edges of a block, by type where they are."""
    if isinstance(edge, Mapping):
        return {kind: values[block.edges[kind].data[dgl.EID].long()].to(device) for kind, values in edge.items()}
    return edge[block.edata[dgl.EID].long()].to(device)


@contextmanager
def quiet() -> Iterator[None]:
    """Context that suppresses DGL's advice on CPU affinity and its timings of METIS."""
    with warnings.catch_warnings(), redirect_stdout(StringIO()):
        warnings.filterwarnings("ignore", message="Dataloader CPU affinity opt is not enabled")
        warnings.simplefilter("ignore", ResourceWarning)  # METIS' timings leave a file open
        yield


@names_checked(num_parts="num_clusters=")
@takes_graph()
def clusters(graph: GraphLike, num_clusters: int) -> Tensor:
    """Clusters of nodes by METIS (Karypis and Kumar 1998), which minimises the number of edges between clusters.

    Args:
        graph: on the CPU
        num_clusters: from 1 to the number of nodes

    Returns:
        the cluster of each node, (N,), int64

    Raises:
        ValueError: for ``num_clusters`` below 1 or above the number of nodes

    Example:
        >>> import torch
        >>> from gnnlib.large import clusters
        >>> import dgl
        >>> ring = torch.arange(100)
        >>> clusters(dgl.graph((ring, ring.roll(1))), 2).bincount().tolist()
        [50, 50]
    """
    check_graph("clusters", graph)
    if not 1 <= num_clusters <= graph.num_nodes():
        raise ValueError(f"clusters: expected 1 to {graph.num_nodes()} clusters, one node in each, got {num_clusters}")
    if num_clusters == 1:  # METIS divides by its logarithm
        return torch.zeros(graph.num_nodes(), dtype=torch.int64)
    check_dgl("clusters")
    with quiet():
        return dgl.metis_partition_assignment(as_dgl(graph).long(), num_clusters)


@names_checked()
@takes_graph()
def cluster_batches(
    graph: GraphLike,
    x: FeatureRows,
    target: Tensor,
    nodes: Tensor,
    *,
    cluster: Tensor,
    batch_size: int,
    generator: torch.Generator,
    edge: Tensor | None = None,
    device: torch.device | str = "cpu",
) -> Iterator[Batch]:
    """One epoch over all clusters in random order, some at a time with all edges among them (Cluster-GCN: Chiang et al.
    2019, arXiv 1905.07953, section 3.2). Batches without training nodes, in any process, are skipped.

    Differs from the paper: averages are over the neighbours in the batch (as in its section 3.3), not over all.

    Args:
        graph: on the CPU
        x: features by node id: a tensor, a `NpyMatrix`, ...
        target: (N, ...) by node id
        nodes: the training nodes, as numbers or as a boolean mask
        cluster: of each node, as of `clusters`
        batch_size: clusters per batch
        generator: of the order
        edge: weights or features of all edges, for layers that take them
        device: of the batches

    Returns:
        batches whose graph is a subgraph

    Example:
        >>> import torch
        >>> from gnnlib.large import cluster_batches
        >>> import dgl
        >>> graph, x, label = dgl.rand_graph(50, 200), torch.rand(50, 8), torch.arange(50)
        >>> generator, cluster = torch.Generator().manual_seed(0), torch.arange(50) % 5
        >>> batches = cluster_batches(
        ...     graph, x, label, torch.arange(10), cluster=cluster, batch_size=2, generator=generator
        ... )
        >>> [(batch.graph.num_nodes(), len(batch.target)) for batch in batches]
        [(20, 4), (20, 4), (10, 2)]
    """
    check_graph("cluster_batches", graph)
    check_rows("cluster_batches", graph, x)
    check_rows("cluster_batches", graph, target, "target")
    nodes = as_indices(nodes, graph.num_nodes(), "cluster_batches: nodes")
    is_training = torch.zeros(graph.num_nodes(), dtype=torch.bool)
    is_training[nodes] = True
    members = cluster.argsort(stable=True).split(torch.bincount(cluster).tolist())
    has_training = torch.zeros(len(members), dtype=torch.bool)
    has_training[cluster[nodes]] = True
    for batch in torch.randperm(len(members), generator=generator).split(batch_size):
        if all(bool(has_training[part].any()) for part in shards(batch)):
            ids = torch.cat([members[i] for i in shard(batch).tolist()])
            rows = is_training[ids].nonzero().squeeze(1)
            subgraph = node_subgraph(graph, ids)
            edges = None if edge is None else edge[subgraph.edata[EID].long()].to(device)
            yield Batch(subgraph, x[ids].to(device), target[ids[rows]].to(device), edges, rows.to(device))
