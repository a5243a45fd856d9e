"""Graphs of any kind as arguments: the same bits whatever a graph came as, one conversion, and nothing left behind."""

import copy
import gc
import importlib
import inspect
import pickle
import pkgutil
import tempfile
import threading
import warnings
import weakref
from dataclasses import astuple

import networkx
import numpy as np
import pytest
import scipy.sparse
import torch
from torch import Tensor

import gnnlib
from gnnlib import Graph, GraphStore, Stack, adjacency, as_graph, models, ops, prepare
from gnnlib._platform.dgl import dgl
from gnnlib.analysis import attention, diagnose, layer_singular_values, saliency, smoothing, squashing, symmetry
from gnnlib.coarsening import coarsen, graclus, haar_pyramid, laplacian_pyramid
from gnnlib.graph import (
    MessageDropout,
    add_edges,
    add_self_loop,
    batch,
    edge_endpoints,
    graph_index,
    graph_sizes,
    keep_edges,
    keep_nodes,
    message_flow_graph,
    new_block,
    node_subgraph,
    node_to_graph,
    relation_graph,
    remove_links,
    reverse,
    to_bidirected,
    unbatch,
    with_message_dropout,
)
from gnnlib.grid import (
    GridConv,
    GridConvTranspose,
    GridPool,
    LocalConv,
    extent,
    filter_at,
    from_torch,
    grid_conv,
    lattice,
    matrix,
    receptive_field,
    transposed_lattice,
    whole,
)
from gnnlib.images import pixel_graph, random_affine
from gnnlib.large import (
    cluster_batches,
    clusters,
    correct_residuals,
    gcn_edge_weights,
    label_propagation,
    layerwise_inference,
    precompute_propagation,
    sampled_batches,
    smooth_predictions,
)
from gnnlib.models import DGI, GAE, RGCN, VGAE, reconstruction_loss
from gnnlib.nn import Hops
from gnnlib.rewiring import add_k_hop_edges, add_virtual_node, fosr, graph_statistics, gtr, rewiring_effect, sdrf
from gnnlib.testing.graphs import random_graph, symmetric_graph
from gnnlib.train import Batch, fit, predict

pyg = pytest.importorskip("torch_geometric.data")

NUM, WIDTH = 11, 4
UNCHECKED = {"check_invariants": False}  # which forbid parallel edges
SRC, DST = (nodes.long() for nodes in edge_endpoints(random_graph(NUM, 23)))


def by(*keys):
    order = torch.from_numpy(np.lexsort([key.numpy() for key in reversed(keys)]))
    return SRC[order], DST[order]


ORDERS = {"any": (SRC, DST), "source": by(SRC, DST), "destination": by(DST, SRC)}


def indptr(nodes):
    return (
        torch.bincount(nodes, minlength=NUM)
        .cumsum(0)
        .new_tensor([0, *torch.bincount(nodes, minlength=NUM).cumsum(0).tolist()])
    )


def hetero_data(src, dst):
    data = pyg.HeteroData()
    data["node"].num_nodes = NUM
    data["node", "to", "node"].edge_index = torch.stack([src, dst])
    return data


def multi_digraph(src, dst):
    graph = networkx.MultiDiGraph()
    graph.add_nodes_from(range(NUM))
    graph.add_edges_from((u, v, {"id": i}) for i, (u, v) in enumerate(zip(src.tolist(), dst.tolist())))
    return graph


def ones(src):
    return torch.ones(len(src))


KINDS = {
    "Graph": ("any", lambda src, dst: Graph((src, dst), NUM)),
    "edge_index": ("any", lambda src, dst: torch.stack([src, dst])),
    "edge_index_int32": ("any", lambda src, dst: torch.stack([src, dst]).int()),
    "numpy": ("any", lambda src, dst: torch.stack([src, dst]).numpy()),
    "pair": ("any", lambda src, dst: (src, dst)),
    "lists": ("any", lambda src, dst: (src.tolist(), dst.tolist())),
    "Data": ("any", lambda src, dst: pyg.Data(edge_index=torch.stack([src, dst]), num_nodes=NUM)),
    "HeteroData": ("any", hetero_data),
    "torch COO": (
        "any",
        lambda src, dst: torch.sparse_coo_tensor(torch.stack([src, dst]), ones(src), (NUM, NUM), **UNCHECKED),
    ),
    "torch CSR": (
        "source",
        lambda src, dst: torch.sparse_csr_tensor(indptr(src), dst, ones(src), (NUM, NUM), **UNCHECKED),
    ),
    "torch CSC": (
        "destination",
        lambda src, dst: torch.sparse_csc_tensor(indptr(dst), src, ones(src), (NUM, NUM), **UNCHECKED),
    ),
    "scipy COO": ("any", lambda src, dst: scipy.sparse.coo_array((ones(src).numpy(), (src, dst)), (NUM, NUM))),
    "scipy CSR": ("source", lambda src, dst: scipy.sparse.csr_array((ones(src), dst, indptr(src)), (NUM, NUM))),
    "scipy CSC": ("destination", lambda src, dst: scipy.sparse.csc_matrix((ones(src), src, indptr(dst)), (NUM, NUM))),
    "networkx": ("any", multi_digraph),
}
CONVERTED = [name for name in KINDS if name not in ("Graph", "lists")]  # whose conversion is stored


def make(kind):
    order, function = KINDS[kind]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Sparse CS[RC] tensor support is in beta")
        return function(*ORDERS[order])


OBJECTS = {kind: make(kind) for kind in KINDS}
REFERENCES = {order: dgl.graph(edges, num_nodes=NUM) for order, edges in ORDERS.items()}

torch.manual_seed(0)
X, EDGE, WEIGHT = torch.randn(NUM, WIDTH), torch.rand(len(SRC), 3), torch.rand(len(SRC))
LABEL = torch.arange(NUM) % 2


def module(build, *inputs):
    """The output of a module and the gradient of its features, on any graph."""
    torch.manual_seed(1)
    net = build()

    def call(graph):
        x = X.clone().requires_grad_()
        torch.manual_seed(2)
        y = net(graph, x, *inputs)
        parts = [part for part in (y if isinstance(y, tuple) else (y,)) if isinstance(part, Tensor)]
        return *parts, *torch.autograd.grad(sum(part.square().sum() for part in parts), x)

    return call


def reversible_block():
    return gnnlib.ReversibleBlock([gnnlib.GNNLayer(gnnlib.GCNConv(WIDTH // 2, WIDTH // 2)) for _ in range(2)])


def seeded(value):
    torch.manual_seed(1)
    return value


def dropped(graph):
    return with_message_dropout(graph, seeded(MessageDropout).sample(0.5), torch.device("cpu"))


def on_disk(graph):
    with tempfile.TemporaryDirectory() as folder:
        np.save(f"{folder}/x.npy", X.numpy())
        return [torch.from_numpy(np.load(path)) for path in precompute_propagation(graph, f"{folder}/x.npy", folder, 1)]


def stack(**options):
    return Stack.build(gnnlib.GCNConv, WIDTH, 8, 2, num_layers=3, **options)


def typed(build):
    """A layer with the relations of its edges."""

    def make():
        conv = build()
        return lambda graph, x: conv(graph, x, etypes=torch.arange(len(SRC)) % 4)

    return make


def numbers(statistics):
    return torch.tensor(astuple(statistics), dtype=torch.float64)


def of_one_type(build):
    """A network for the only edge type, whose name depends on the kind of graph."""

    def make():
        def call(graph, x):
            etype = as_graph(graph, x).canonical_etypes[0]
            torch.manual_seed(1)
            y = build(etype)(graph, {etype[0]: x})
            return y[etype[2]] if isinstance(y, dict) else y

        return call

    return make


def figures(diagnosis):
    return [torch.tensor(float(value)) for value in str(diagnosis).split() if value.replace(".", "").isdigit()]


LAYERS = {
    "GCNConv": (lambda: gnnlib.GCNConv(WIDTH, 3), WEIGHT),
    "GINConv": (lambda: gnnlib.GINConv(WIDTH, 3),),
    "SAGEConv": (lambda: gnnlib.SAGEConv(WIDTH, 3),),
    "GATConv": (lambda: gnnlib.GATConv(WIDTH, 3, 2),),
    "GATv2Conv": (lambda: gnnlib.GATv2Conv(WIDTH, 3, 2),),
    "SGConv": (lambda: gnnlib.SGConv(WIDTH, 3, k=2),),
    "ECConv": (lambda: gnnlib.ECConv(WIDTH, 3, edge_feats=3), EDGE),
    "ChebConv": (lambda: gnnlib.ChebConv(WIDTH, 3, k=3),),
    "GatedGCNConv": (lambda: gnnlib.GatedGCNConv(WIDTH, 3),),
    "PNAConv": (lambda: gnnlib.PNAConv(WIDTH, 3),),
    "MessageConv": (lambda: gnnlib.MessageConv(WIDTH, 3),),
    "GINEConv": (lambda: gnnlib.GINEConv(WIDTH, 3, edge_feats=3), EDGE),
    "GCNEConv": (lambda: gnnlib.GCNEConv(WIDTH, 3, edge_feats=3), EDGE),
    "HeteroConv": (of_one_type(lambda etype: gnnlib.HeteroConv({etype: gnnlib.SAGEConv(WIDTH, 3)})),),
    "RGCN": (of_one_type(lambda etype: RGCN([etype], WIDTH, 8, 3, ntype=etype[0], dropout=0.0)),),
    "RelGraphConv": (typed(lambda: gnnlib.RelGraphConv(WIDTH, 3, num_rels=4)),),
    "MoNetConv": (lambda: gnnlib.MoNetConv(WIDTH, 3, dim=3, num_kernels=2), EDGE),
    "BatchNorm": (lambda: gnnlib.BatchNorm(WIDTH),),
    "LayerNorm": (lambda: gnnlib.LayerNorm(WIDTH),),
    "GraphNorm": (lambda: gnnlib.GraphNorm(WIDTH),),
    "PairNorm": (gnnlib.PairNorm,),
    "PairNormSCS": (gnnlib.PairNormSCS,),
    "NodeNorm": (gnnlib.NodeNorm,),
    "MeanSubtraction": (gnnlib.MeanSubtraction,),
    "ContraNorm": (lambda: gnnlib.ContraNorm(WIDTH),),
    "DiffGroupNorm": (lambda: gnnlib.DiffGroupNorm(WIDTH, groups=2),),
    "MeanReadout": (lambda: gnnlib.MeanReadout(WIDTH),),
    "SumReadout": (lambda: gnnlib.SumReadout(WIDTH),),
    "MaxReadout": (lambda: gnnlib.MaxReadout(WIDTH),),
    "MeanMaxReadout": (lambda: gnnlib.MeanMaxReadout(WIDTH),),
    "FlatReadout": (lambda: gnnlib.FlatReadout(WIDTH, NUM),),
    "AttentionReadout": (lambda: gnnlib.AttentionReadout(WIDTH, 2),),
    "Set2Set": (lambda: gnnlib.Set2Set(WIDTH),),
    "SortPool": (lambda: gnnlib.SortPool(WIDTH, k=4),),
    "DropMessage": (lambda: gnnlib.DropMessage(gnnlib.SAGEConv(WIDTH, 3), 0.5),),
    "APPNP": (lambda: gnnlib.APPNP(3),),
    "DAGNN": (lambda: gnnlib.DAGNN(WIDTH, 3),),
    "Hops": (lambda: Hops(2),),
    "GradientGating": (
        lambda: gnnlib.GradientGating(gnnlib.GCNConv(WIDTH, WIDTH), gate=gnnlib.SAGEConv(WIDTH, WIDTH)),
    ),
    "FeedForward": (lambda: gnnlib.FeedForward(WIDTH),),
    "GNNLayer": (lambda: gnnlib.GNNLayer(gnnlib.GCNConv(WIDTH, 3), norm=gnnlib.BatchNorm(3), drop_edge=0.5),),
    "VirtualNode": (lambda: gnnlib.VirtualNode([gnnlib.GNNLayer(gnnlib.GCNConv(WIDTH, WIDTH))], WIDTH),),
    "Stack": (lambda: stack(norm="pairnorm", readout="mean", jump="cat"),),
    "reversible": (lambda: stack(reversible=2),),
    "SkipInit": (lambda: gnnlib.SkipInit(WIDTH),),
    "ReversibleBlock": (lambda: reversible_block(),),
    "Reversible": (lambda: gnnlib.Reversible([reversible_block(), reversible_block()]),),
    "Standardize": (lambda: gnnlib.Standardize(gnnlib.GCNConv(WIDTH, 3), torch.ones(WIDTH), torch.ones(WIDTH)),),
    "GAE": (lambda: GAE(stack()),),
    "VGAE": (lambda: VGAE(stack()).eval(),),
    "DGI": (lambda: DGI(stack(), 2),),
    "SGC": (lambda: models.SGC(WIDTH, 2),),
    "SIGN": (lambda: models.SIGN(WIDTH, 8, 2),),
    "GfNN": (lambda: models.GfNN(WIDTH, 8, 2),),
    "APPNPNet": (lambda: models.APPNPNet(WIDTH, 8, 2),),
    "DAGNNNet": (lambda: models.DAGNNNet(WIDTH, 8, 2),),
    "JKNet": (lambda: models.JKNet(WIDTH, 8, 2, num_layers=2),),
    "GCNII": (lambda: models.GCNII(WIDTH, 8, 2, num_layers=2),),
    "modules of dgl.nn": (
        lambda: Stack([dgl.nn.GraphConv(WIDTH, 3, allow_zero_in_degree=True)], readout=dgl.nn.AvgPooling()),
    ),
    "class derived from dgl.nn": (lambda: Stack([type("Conv", (dgl.nn.SAGEConv,), {})(WIDTH, 3, "mean")]),),
}
PAIR_SCORES = ("common_neighbors", "adamic_adar", "resource_allocation", "personalized_pagerank")
FUNCTIONS = {
    "adjacency": lambda graph: [adjacency(graph).csc.eid, adjacency(graph).csr.eid],
    "edge_endpoints": edge_endpoints,
    "prepare": lambda graph: [adjacency(prepare(graph)).csc.eid, *prepare(graph).edges()],
    "with_message_dropout": lambda graph: gnnlib.propagate(dropped(graph), x=X),
    "DropEdge": lambda graph: edge_endpoints(seeded(gnnlib.DropEdge)(0.5)(graph)[0]),
    "aggregate": lambda graph: gnnlib.aggregate(graph, X, WEIGHT),
    "propagate": lambda graph: gnnlib.propagate(graph, x=X),
    "attend": lambda graph: ops.attend(graph, X[:, None], torch.ones(1, WIDTH), torch.ones(1, WIDTH)),
    "convolve": lambda graph: ops.convolve(graph, X, EDGE, torch.ones(3, WIDTH, 2)),
    "edge_score": lambda graph: ops.edge_score(graph, X[:, None], X[:, None], torch.ones(1, WIDTH)),
    "gather_src": lambda graph: ops.gather_src(graph, X),
    "gather_dst": lambda graph: ops.gather_dst(graph, X),
    "edge_softmax": lambda graph: gnnlib.edge_softmax(graph, WEIGHT),
    "edge_dot": lambda graph: gnnlib.edge_dot(graph, X, X),
    "degree_norm": lambda graph: gnnlib.degree_norm(graph),
    **{
        name: lambda graph, name=name: getattr(gnnlib, name)(graph, X)
        for name in ("readout_sum", "readout_mean", "readout_max", "readout_mean_max", "readout_flat")
    },
    "laplacian_encoding": lambda graph: gnnlib.laplacian_encoding(graph, 3).abs(),
    "random_walk_encoding": lambda graph: gnnlib.random_walk_encoding(graph, 3),
    "dirichlet_energy": lambda graph: smoothing.dirichlet_energy(graph, X),
    "mean_average_distance": lambda graph: smoothing.mean_average_distance(graph, X),
    "mad_gap": lambda graph: smoothing.mad_gap(graph, X, near=1, remote=2),
    "effective_rank": lambda graph: smoothing.effective_rank(graph, X),
    "numerical_rank": lambda graph: smoothing.numerical_rank(graph, X),
    "dead_feature_fraction": lambda graph: smoothing.dead_feature_fraction(graph, X),
    "group_distance_ratio": lambda graph: smoothing.group_distance_ratio(graph, X, LABEL),
    "instance_information_gain": lambda graph: smoothing.instance_information_gain(graph, X, X),
    "rayleigh_quotient": lambda graph: smoothing.rayleigh_quotient(graph, X),
    "rank_one_distance": lambda graph: smoothing.rank_one_distance(graph, X),
    "feature_correlation": lambda graph: smoothing.feature_correlation(graph, X),
    "influence": lambda graph: squashing.influence(MODEL, graph, X, 3, nodes=[1]).by_hops,
    "balanced_forman_curvature": squashing.balanced_forman_curvature,
    "ollivier_curvature": squashing.ollivier_curvature,
    "effective_resistance": squashing.effective_resistance,
    "commute_time": squashing.commute_time,
    "spectral_gap": squashing.spectral_gap,
    "graph_statistics": lambda graph: numbers(graph_statistics(graph)),
    "rewiring_effect": lambda graph: numbers(rewiring_effect(graph, graph).after),
    "add_k_hop_edges": lambda graph: edge_endpoints(add_k_hop_edges(graph, 2, fill=1.0)),
    "add_virtual_node": lambda graph: edge_endpoints(add_virtual_node(graph, fill=1.0)),
    "diagnose": lambda graph: figures(diagnose(MODEL, graph, X, LABEL)),
    "summary": lambda graph: torch.tensor([len(gnnlib.summary(MODEL, graph, X).layers)]),
    "layer_singular_values": lambda graph: list(layer_singular_values(MODEL, graph, X, k=2).values()),
    "saliency": lambda graph: saliency(MODEL, graph, X, LABEL),
    "attention": lambda graph: attention(ATTENTION, graph, X),
    "permutation_error": lambda graph: torch.tensor(float(symmetry.permutation_error(MODEL, graph, X))),
    "coarsen": lambda graph: coarsen(graph, torch.arange(NUM) // 2).graph.edges(),
    "graclus": lambda graph: graclus(graph),
    "laplacian_pyramid": lambda graph: laplacian_pyramid([graph, graph]).split(X)[1],
    "receptive_field": lambda graph: receptive_field([graph, graph], 1),
    "filter_at": lambda graph: filter_at(SAGE, graph, X, 1),
    "reconstruction_loss": lambda graph: reconstruction_loss(graph, X),
    "label_propagation": lambda graph: label_propagation(graph, KNOWN, 2),
    "correct_residuals": lambda graph: correct_residuals(graph, PROB, KNOWN),
    "smooth_predictions": lambda graph: smooth_predictions(graph, PROB, KNOWN),
    "gcn_edge_weights": gcn_edge_weights,
    "relation_graph": lambda graph: edge_endpoints(relation_graph(graph, as_graph(graph).canonical_etypes[0])),
    "clusters": lambda graph: clusters(graph, 2).bincount(),
    "cluster_batches": lambda graph: [
        part.x
        for part in cluster_batches(
            graph, X, LABEL, torch.arange(6), cluster=LABEL, batch_size=1, generator=torch.Generator().manual_seed(0)
        )
    ],
    "layerwise_inference": lambda graph: layerwise_inference(SAGE, graph, X, batch_size=4),
    "precompute_propagation": lambda graph: on_disk(graph),
    "sampled_batches": lambda graph: [
        part.x
        for part in sampled_batches(
            graph, X, LABEL, torch.arange(6), fanouts=[2], batch_size=3, generator=torch.Generator().manual_seed(0)
        )
    ],
    "predict": lambda graph: predict(MODEL, Batch(graph, X, LABEL)),
    "GraphStore": lambda graph: GraphStore([graph, graph]).batch([1, 0]).edges(),
    "batch": lambda graph: edge_endpoints(batch([graph, graph])),
    "unbatch": lambda graph: edge_endpoints(unbatch(graph)[0]),
    "graph_sizes": graph_sizes,
    "graph_index": lambda graph: graph_index(graph, torch.tensor([NUM])),
    "node_to_graph": lambda graph: node_to_graph(graph, torch.device("cpu")).in_degrees,
    "add_edges": lambda graph: edge_endpoints(add_edges(graph, torch.tensor([3]), torch.tensor([0]))),
    "add_self_loop": lambda graph: edge_endpoints(add_self_loop(graph)),
    "keep_edges": lambda graph: edge_endpoints(keep_edges(graph, torch.arange(len(SRC)) % 2 > 0)),
    "keep_nodes": lambda graph: edge_endpoints(keep_nodes(graph, torch.arange(NUM) % 2 > 0)),
    "reverse": lambda graph: edge_endpoints(reverse(graph)),
    "remove_links": lambda graph: edge_endpoints(remove_links(graph, [0, 1], [2, 3])),
    **{name: lambda graph, name=name: getattr(ops, name)(graph, [0, 1, 2], [3, 4, 5]) for name in PAIR_SCORES},
    "to_bidirected": lambda graph: edge_endpoints(to_bidirected(graph)),
    "node_subgraph": lambda graph: edge_endpoints(node_subgraph(graph, torch.arange(3))),
    "message_flow_graph": lambda graph: edge_endpoints(message_flow_graph(graph, torch.arange(3))),
}
PROB, KNOWN = torch.full((NUM, 2), 0.5), torch.where(torch.arange(NUM) < 6, LABEL, -1)
MODEL, ATTENTION, SAGE = (
    stack().eval(),
    Stack([gnnlib.GATConv(WIDTH, 2, 2)]).eval(),
    Stack.build(gnnlib.SAGEConv, WIDTH, 4, 2, num_layers=2).eval(),
)


def tensors(value):
    return [value] if isinstance(value, Tensor) else [tensor for part in value for tensor in tensors(part)]


def with_nodes(name, kind, graph):
    """An edge list alone says only as many nodes as its edges have, where there are no features."""
    alone = kind in ("edge_index", "edge_index_int32", "numpy", "pair", "lists")
    return Graph(graph, NUM) if alone and name in WITHOUT_FEATURES else graph


WITHOUT_FEATURES = {
    *("adjacency", "edge_endpoints", "prepare", "random_walk_encoding", "laplacian_encoding", "graclus", "GraphStore"),
    *("degree_norm", "DropEdge", "with_message_dropout", "coarsen", "laplacian_pyramid", "receptive_field", "clusters"),
    *("gcn_edge_weights", "precompute_propagation", "batch", "unbatch", "graph_sizes", "graph_index", "node_to_graph"),
    *("balanced_forman_curvature", "ollivier_curvature", "effective_resistance", "commute_time", "spectral_gap"),
    *("graph_statistics", "rewiring_effect", "add_k_hop_edges", "add_virtual_node", "add_edges"),
    *("relation_graph", "HeteroConv", "RGCN"),
    *PAIR_SCORES,
    *("add_self_loop", "keep_edges", "keep_nodes", "remove_links", "reverse", "to_bidirected"),
    *("node_subgraph", "message_flow_graph"),
}


def check_bits(call, objects, references):
    """``objects``: of each kind a graph and its reference."""
    expected = {key: tensors(call(graph)) for key, graph in references.items()}
    for kind, (graph, key) in objects.items():
        values = tensors(call(graph))
        assert len(values) == len(expected[key]) > 0
        for value, reference in zip(values, expected[key]):
            assert value.dtype == reference.dtype, kind
            assert torch.equal(value.nan_to_num(), reference.nan_to_num()), kind


@pytest.mark.parametrize("name", [*LAYERS, *FUNCTIONS])
def test_the_bits_are_the_same_whatever_the_graph_came_as(name):
    call = module(*LAYERS[name]) if name in LAYERS else FUNCTIONS[name]
    objects = {kind: (with_nodes(name, kind, graph), KINDS[kind][0]) for kind, graph in OBJECTS.items()}
    check_bits(call, objects, REFERENCES)


def placed():
    """A graph with positions, features and labels."""
    graph = dgl.graph((SRC, DST), num_nodes=NUM)
    graph.ndata.update({"pos": X[:, :2].contiguous(), "feat": X, "label": LABEL})
    return graph


def homogeneous(graph):
    return {"Graph": Graph(graph), "Data": Graph(graph).to_pyg(), "networkx": Graph(graph).to_networkx()}


def typed(graph):
    return {"Graph": Graph(graph), "HeteroData": Graph(graph).to_pyg()}


WINDOW, PIXELS = lattice((4, 4), 2, stride=2), torch.rand(16, 1, 2)
WITH_COLUMNS = {
    "PredEdgeConv": (placed, module(lambda: gnnlib.PredEdgeConv(WIDTH, 3, pos_feats=2))),
    "SplineConv": (placed, module(lambda: gnnlib.SplineConv(WIDTH, 3, (3, 3)))),
    "fixed_point": (symmetric_graph, lambda graph: smoothing.fixed_point(graph, X)),
    **{
        method.__name__: (symmetric_graph, lambda graph, method=method: edge_endpoints(method(graph, 2, fill=1.0)))
        for method in (sdrf, fosr, gtr)
    },
    "fixed_point_distance": (symmetric_graph, lambda graph: smoothing.fixed_point_distance(graph, X)),
    "voxel": (placed, lambda graph: gnnlib.voxel(graph, 0.5)),
    "Batch": (placed, lambda graph: [Batch.from_graph(graph).x, Batch.from_graph(graph).target]),
    "fit": (placed, lambda graph: torch.tensor([fit(seeded(stack)(), graph, epochs=1)[-1]["loss"]])),
    "Standardize": (placed, lambda graph: gnnlib.Standardize.fit(torch.nn.Identity(), graph).mean),
    "random_affine": (lambda: pixel_graph((3, 3)), lambda graph: random_affine(graph, flip=1.0).ndata["pos"]),
    "extent": (lambda: WINDOW, lambda graph: torch.tensor(extent(graph, torch.arange(16) > 9))),
    "GridConv": (lambda: WINDOW, lambda graph: seeded(GridConv)(2, 3, 2)(graph, PIXELS)),
    "GridConvTranspose": (
        lambda: transposed_lattice((4, 4), 2, stride=2),
        lambda graph: seeded(GridConvTranspose)(2, 3, 2)(graph, PIXELS),
    ),
    "GridPool": (lambda: WINDOW, lambda graph: GridPool("max")(graph, PIXELS)),
    "LocalConv": (lambda: WINDOW, lambda graph: seeded(LocalConv)(graph, 2, 3)(graph, PIXELS)),
    "grid_conv": (lambda: WINDOW, lambda graph: grid_conv(graph, PIXELS, torch.ones(3, 2, 2, 2))),
    "GridNetwork": (
        lambda: lattice((4, 4), 3, padding=1),
        lambda graph: from_torch(seeded(torch.nn.Conv2d)(2, 3, 3, padding=1), (2, 4, 4))(graph, PIXELS[:, 0]),
    ),
    "whole": (lambda: WINDOW, lambda graph: torch.tensor(whole(graph).window.stride)),
    "matrix": (lambda: WINDOW, lambda graph: torch.from_numpy(matrix(graph, np.ones((2, 2))).toarray())),
    "haar_pyramid": (lambda: WINDOW, lambda graph: haar_pyramid([graph]).split(PIXELS)[1]),
}


@pytest.mark.parametrize("name", WITH_COLUMNS)
def test_the_bits_are_the_same_where_positions_and_taps_are_features(name):
    build, call = WITH_COLUMNS[name]
    graph = build()
    objects = homogeneous(graph) if graph.is_homogeneous else typed(graph)
    check_bits(call, {kind: (value, "DGL") for kind, value in objects.items()}, {"DGL": graph})


@pytest.mark.parametrize("layer", [gnnlib.GCNConv, gnnlib.SAGEConv])
def test_two_node_sets(layer):
    src, dst = torch.tensor([0, 1, 2, 3, 3]), torch.tensor([0, 0, 1, 2, 0])
    x, values = (torch.rand(4, WIDTH), torch.rand(3, WIDTH)), np.ones(5, np.float32)
    data = pyg.HeteroData()
    data["user"].num_nodes, data["item"].num_nodes = 4, 3
    data["user", "rates", "item"].edge_index = torch.stack([src, dst])
    kinds = {
        "Graph": Graph({("user", "rates", "item"): (src, dst)}, {"user": 4, "item": 3}),
        "pair": (src, dst),
        "edge_index": torch.stack([src, dst]),
        "HeteroData": data,
        "scipy": scipy.sparse.coo_array((values, (src, dst)), (4, 3)),
        "torch": torch.sparse_coo_tensor(torch.stack([src, dst]), torch.from_numpy(values), (4, 3), **UNCHECKED),
        "block": new_block(src, dst, 4, 3),
        "block of ours": Graph(new_block(src, dst, 4, 3)),
    }
    conv = layer(WIDTH, 2)
    reference = conv(dgl.heterograph({("user", "rates", "item"): (src, dst)}, {"user": 4, "item": 3}), x)
    for kind, graph in kinds.items():
        assert torch.equal(conv(graph, x), reference), kind
    features = {"user": x[0], "item": x[1]}
    typed = Graph({("user", "rates", "item"): (src, dst), ("item", "by", "user"): (dst, src)}, {"user": 4, "item": 3})
    assert torch.equal(conv(typed["rates"], (features["user"], features["item"])), reference)


def test_a_stack_of_message_flow_graphs():
    model = Stack.build(gnnlib.SAGEConv, WIDTH, 8, 2, num_layers=2).eval()
    blocks = [dgl.create_block(([0, 1, 4, 4], [0, 1, 1, 2]), 5, 3), dgl.create_block(([2, 1, 0], [0, 1, 1]), 3, 2)]
    for block in blocks:
        for frame, num in ((block.srcdata, block.num_src_nodes()), (block.dstdata, block.num_dst_nodes())):
            frame["_ID"] = torch.arange(num)
    x = torch.rand(5, WIDTH)
    assert torch.equal(model([Graph(block) for block in blocks], x), model(blocks, x))


# One conversion, until the object changes


@pytest.mark.parametrize("kind", CONVERTED)
def test_a_conversion_is_stored_while_the_object_lives(kind):
    graph = make(kind)
    if kind == "pair":
        graph = graph[0].clone(), graph[1].clone()
    first, second = as_graph(graph, X), as_graph(graph, X)
    assert first is second
    assert adjacency(first) is adjacency(second)
    alive, converted = weakref.ref(graph[0] if kind == "pair" else graph), weakref.ref(first)
    structure = weakref.ref(adjacency(first))
    del graph, first, second
    if kind == "networkx":  # its views refer to it
        gc.collect()
    assert (alive(), converted(), structure()) == (None, None, None)


def changed(kind):
    """An object and a function that changes it."""
    graph = make(kind)
    if isinstance(graph, Tensor) and graph.layout is torch.strided:
        return graph, lambda: graph[:, 0].zero_()
    if isinstance(graph, np.ndarray):
        return graph, lambda: graph.__setitem__((0, 0), (graph[0, 0] + 1) % NUM)
    if kind == "pair":
        graph = tuple(tensor.clone() for tensor in graph)
        return graph, lambda: graph[1][:1].add_(1).remainder_(NUM)
    if kind == "Data":
        return graph, lambda: setattr(graph, "edge_index", graph.edge_index.flip(0))
    if kind == "HeteroData":
        return graph, lambda: graph["to"].edge_index[0].add_(1).remainder_(NUM)
    if isinstance(graph, Tensor):
        return graph, lambda: (graph._values() if kind == "torch COO" else graph.values()).mul_(2)
    if kind == "networkx":
        return graph, lambda: graph.add_edge(0, 5, id=graph.number_of_edges())
    return graph, lambda: graph.data.__imul__(2)


@pytest.mark.parametrize("kind", CONVERTED)
def test_a_change_is_noticed(kind):
    graph, change = changed(kind)
    before = as_graph(graph, X)
    x = torch.eye(NUM)
    y = gnnlib.aggregate(graph, x, as_graph(graph, X).edata.get("weight"))
    change()
    after = as_graph(graph, X)
    assert after is not before
    assert not torch.equal(gnnlib.aggregate(graph, x, after.edata.get("weight")), y)
    assert as_graph(graph, X) is after


def test_another_tensor_at_the_same_address_is_noticed():
    memory, data = torch.stack([SRC, DST]).numpy(), pyg.Data(x=X)
    for shift in range(3):
        memory[1] = ((DST + shift) % NUM).numpy()
        expected = gnnlib.aggregate(Graph(memory, NUM), X)
        assert torch.equal(gnnlib.aggregate((SRC, torch.from_numpy(memory[1])), X), expected)
        data.edge_index = None  # frees the tensor of the last round
        data.edge_index = torch.from_numpy(memory)
        assert torch.equal(gnnlib.aggregate(data, X), expected)


def test_inference_tensors_and_replaced_features():
    with torch.inference_mode():
        edge_index = torch.stack([SRC, DST])
        assert torch.equal(gnnlib.aggregate(edge_index, X), gnnlib.aggregate(REFERENCES["any"], X))
    data = pyg.Data(x=X, edge_index=torch.stack([SRC, DST]))
    as_graph(data)
    data.x = X + 1
    assert torch.equal(as_graph(data).ndata["x"], X + 1)
    data.x += 1
    assert torch.equal(as_graph(data).ndata["x"], X + 1 + 1)


@pytest.mark.parametrize("kind", CONVERTED)
def test_the_original_object_is_pickled_and_copied_as_before(kind):
    graph, fresh = make(kind), make(kind)
    adjacency(as_graph(graph, X))
    content = pickle.dumps(graph)
    assert len(content) < len(pickle.dumps(fresh)) + 250  # the other libraries cache, too
    assert b"gnnlib.graph" not in content
    other = pickle.loads(content)
    assert torch.equal(gnnlib.aggregate(other, X), gnnlib.aggregate(graph, X))
    other = copy.copy(graph) if "CS" in kind else copy.deepcopy(graph)  # PyTorch does not copy CSR
    assert torch.equal(gnnlib.aggregate(other, X), gnnlib.aggregate(graph, X))


def test_threads_convert_once_or_alike():
    for kind in CONVERTED:
        graph, results = make(kind), []
        threads = [threading.Thread(target=lambda: results.append(gnnlib.aggregate(graph, X))) for _ in range(4)]  # noqa: B023
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(results) == 4
        assert all(torch.equal(result, results[0]) for result in results)


# Training


def test_fit_takes_data_and_batches_of_pyg():
    torch.manual_seed(0)
    mask = torch.arange(NUM) % 3 > 0
    data = pyg.Data(x=X, y=LABEL, edge_index=torch.stack([SRC, DST]), train_mask=mask, val_mask=~mask)
    histories = []
    for graph in (data, Graph(data), Graph(data).to_dgl()):
        torch.manual_seed(1)
        model = stack()
        history = fit(model, graph, epochs=2, feature="x", label="y", val=graph)
        histories.append([history, predict(model, graph, "x")])
    assert all(torch.equal(other[1], histories[0][1]) for other in histories)
    graphs = [
        pyg.Data(x=X[:n], y=torch.tensor([n % 2]), edge_index=torch.tensor([[0, 1], [1, 2]])) for n in (3, 4, 5, 6)
    ]
    loader = importlib.import_module("torch_geometric.loader").DataLoader(graphs, batch_size=2)
    torch.manual_seed(1)
    model = stack(readout="mean")
    fit(model, loader, epochs=1, feature="x", label="y")
    store = GraphStore(graphs, [graph.y.item() for graph in graphs])
    assert torch.equal(predict(model, graphs, "x"), predict(model, store, "x"))


@pytest.mark.process
def test_a_loader_with_workers_takes_converted_objects():
    graphs = [pyg.Data(x=X[:n], edge_index=torch.tensor([[0, 1], [1, 2]])) for n in (3, 4, 5, 6)]
    model = stack(readout="mean").eval()
    expected = torch.cat([model(graph, graph.x) for graph in graphs])
    loader = importlib.import_module("torch_geometric.loader").DataLoader
    for num_workers in (0, 2):
        outputs = [model(data, data.x) for data in loader(graphs, batch_size=2, num_workers=num_workers)]
        torch.testing.assert_close(torch.cat(outputs), expected)


# Every public function


NOT_CONVERTED = {
    "as_dgl": "takes what as_graph returned",
    "paint": "takes a label map too",
    "show_regions": "takes a label map too",
    "show_values": "takes a label map too",
    "Conv.check_edge": "called in forward",
    "Conv.positions": "called in forward",
    "Conv.src_dst_features": "called in forward",
    "Conv.src_features": "called in forward",
    "_Attention.average": "called in forward",
    "_Propagation.hop": "called in forward",
    "ReversibleBlock.change": "called in forward",
    "Standardize.forward": "passes the graph to its model",
    "batch": "reads the parts of its graphs",
    "GraphStore.__init__": "likewise",
    "GridNetwork.__init__": "of torch.fx",
    "Hierarchy.__init__": "called by superpixel_hierarchy",
}


def public_objects():
    """Those of all packages but ``compat``, which has DGL's interface, and of the tools."""
    for module in pkgutil.walk_packages(gnnlib.__path__, "gnnlib."):
        names = module.name.split(".")
        skip = names[1] in ("benchmarks", "compat", "datasets", "kernels", "testing") or any(n[0] == "_" for n in names)
        package = None if skip or not module.ispkg else importlib.import_module(module.name)
        yield from ((name, getattr(package, name)) for name in getattr(package, "__all__", ()))


def functions_of(value):
    """A function, or the public methods of a class, that take a graph or several."""
    keys = [key for key in dir(value) if key[0] != "_" or key == "__init__"] if inspect.isclass(value) else []
    members = [value, *(getattr(value, key) for key in keys)]
    functions = {function for member in members if inspect.isfunction(function := getattr(member, "__func__", member))}
    return {function for function in functions if {"graph", "graphs"} & inspect.signature(function).parameters.keys()}


def test_every_public_function_converts_its_graph():
    takes = {function.__qualname__: function for _, value in public_objects() for function in functions_of(value)}
    assert len(takes) > 80
    assert {name for name, value in takes.items() if not getattr(value, "takes_graph", False)} == set(NOT_CONVERTED)


ELSEWHERE = {
    "Conv": "base of the layers",
    "paint": "paints what other functions return",
    "set_adjacency_factory": "registers a function with the structure of the graph",
    "Hierarchy": "is what superpixel_hierarchy returns",
    "show_filter_at": "draws the result of filter_at",
    "show_graph": "draws its positions",
    "show_receptive_field": "draws the result of receptive_field",
    "show_regions": "takes a label map too",
    "show_values": "takes a label map too",
    "as_dgl": "takes what as_graph returned",
}


def test_every_public_name_that_takes_a_graph_is_compared():
    names = {name for name, value in public_objects() if functions_of(value)}
    assert names - {*LAYERS, *FUNCTIONS, *WITH_COLUMNS} == set(ELSEWHERE)


@pytest.mark.parametrize(
    "call",
    [
        lambda graphs: laplacian_pyramid(graphs),
        lambda graphs: haar_pyramid(graphs=graphs),
        lambda graphs: receptive_field(graphs, 0),
    ],
)
def test_what_is_no_list_of_graphs(call):
    for graphs, message in (
        (Graph(([0], [0])), "expected a list of graphs, got Graph"),
        ([Graph(([0], [0])), None], r"graph 1: expected a graph: a pair \(src, dst\), .*, got None"),
        ((torch.zeros(3).long(), torch.zeros(3).long()), r"expected an edge_index of shape \(2, E\), got \(3,\)"),
    ):
        with pytest.raises(
            (TypeError, ValueError), match=rf"^(laplacian_pyramid|haar_pyramid|receptive_field): {message}$"
        ):
            call(graphs)


@pytest.mark.parametrize("data", [None, "graph.bin", 3.0, object()])
def test_as_graph_of_what_is_no_graph(data):
    with pytest.raises(TypeError, match=r"^as_graph: expected a graph: a pair \(src, dst\), .*, got "):
        as_graph(data)
