"""Graphs of any kind as arguments: the same bits whatever a graph came as, one conversion, and nothing left behind."""

import copy
import gc
import importlib
import inspect
import pickle
import pkgutil
import threading
import warnings
import weakref

import networkx
import numpy as np
import pytest
import scipy.sparse
import torch
from torch import Tensor

import gnnlib
from gnnlib import Graph, GraphStore, Stack, adjacency, as_graph
from gnnlib._platform.dgl import dgl
from gnnlib.analysis import attention, diagnose, saliency, smoothing, symmetry
from gnnlib.coarsening import coarsen, graclus
from gnnlib.graph import edge_endpoints, new_block
from gnnlib.large import label_propagation, layerwise_inference, sampled_batches
from gnnlib.models import GAE
from gnnlib.nn import Hops
from gnnlib.testing.graphs import random_graph
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


def stack(**options):
    return Stack.build(gnnlib.GCNConv, WIDTH, 8, 2, num_layers=3, **options)


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
    "BatchNorm": (lambda: gnnlib.BatchNorm(WIDTH),),
    "LayerNorm": (lambda: gnnlib.LayerNorm(WIDTH),),
    "GraphNorm": (lambda: gnnlib.GraphNorm(WIDTH),),
    "PairNorm": (gnnlib.PairNorm,),
    "PairNormSCS": (gnnlib.PairNormSCS,),
    "NodeNorm": (gnnlib.NodeNorm,),
    "MeanSubtraction": (gnnlib.MeanSubtraction,),
    "DiffGroupNorm": (lambda: gnnlib.DiffGroupNorm(WIDTH, groups=2),),
    "MeanReadout": (lambda: gnnlib.MeanReadout(WIDTH),),
    "SumReadout": (lambda: gnnlib.SumReadout(WIDTH),),
    "MeanMaxReadout": (lambda: gnnlib.MeanMaxReadout(WIDTH),),
    "FlatReadout": (lambda: gnnlib.FlatReadout(WIDTH, NUM),),
    "DropMessage": (lambda: gnnlib.DropMessage(gnnlib.SAGEConv(WIDTH, 3), 0.5),),
    "APPNP": (lambda: gnnlib.APPNP(3),),
    "DAGNN": (lambda: gnnlib.DAGNN(WIDTH, 3),),
    "Hops": (lambda: Hops(2),),
    "GNNLayer": (lambda: gnnlib.GNNLayer(gnnlib.GCNConv(WIDTH, 3), norm=gnnlib.BatchNorm(3), drop_edge=0.5),),
    "VirtualNode": (lambda: gnnlib.VirtualNode([gnnlib.GNNLayer(gnnlib.GCNConv(WIDTH, WIDTH))], WIDTH),),
    "Stack": (lambda: stack(norm="pairnorm", readout="mean", jump="cat"),),
    "reversible": (lambda: stack(reversible=2),),
    "GAE": (lambda: GAE(stack()),),
    "layer of dgl.nn": (lambda: Stack([dgl.nn.GraphConv(WIDTH, 3, allow_zero_in_degree=True)]),),
}
FUNCTIONS = {
    "adjacency": lambda graph: [adjacency(graph).csc.eid, adjacency(graph).csr.eid],
    "aggregate": lambda graph: gnnlib.aggregate(graph, X, WEIGHT),
    "propagate": lambda graph: gnnlib.propagate(graph, x=X),
    "edge_softmax": lambda graph: gnnlib.edge_softmax(graph, WEIGHT),
    "edge_dot": lambda graph: gnnlib.edge_dot(graph, X, X),
    "degree_norm": lambda graph: gnnlib.degree_norm(graph),
    "readouts": lambda graph: [gnnlib.readout_sum(graph, X), gnnlib.readout_max(graph, X)],
    "laplacian_encoding": lambda graph: gnnlib.laplacian_encoding(graph, 3).abs(),
    "random_walk_encoding": lambda graph: gnnlib.random_walk_encoding(graph, 3),
    "dirichlet_energy": lambda graph: smoothing.dirichlet_energy(graph, X),
    "mean_average_distance": lambda graph: smoothing.mean_average_distance(graph, X),
    "mad_gap": lambda graph: smoothing.mad_gap(graph, X, near=1, remote=2),
    "effective_rank": lambda graph: smoothing.effective_rank(graph, X),
    "group_distance_ratio": lambda graph: smoothing.group_distance_ratio(graph, X, LABEL),
    "diagnose": lambda graph: figures(diagnose(MODEL, graph, X, LABEL)),
    "summary": lambda graph: torch.tensor([len(gnnlib.summary(MODEL, graph, X).layers)]),
    "saliency": lambda graph: saliency(MODEL, graph, X, LABEL),
    "attention": lambda graph: attention(ATTENTION, graph, X),
    "permutation_error": lambda graph: torch.tensor(float(symmetry.permutation_error(MODEL, graph, X))),
    "coarsen": lambda graph: coarsen(graph, torch.arange(NUM) // 2).graph.edges(),
    "graclus": lambda graph: graclus(graph),
    "label_propagation": lambda graph: label_propagation(graph, torch.where(torch.arange(NUM) < 6, LABEL, -1), 2),
    "layerwise_inference": lambda graph: layerwise_inference(SAGE, graph, X, batch_size=4),
    "sampled_batches": lambda graph: [
        part.x
        for part in sampled_batches(
            graph, X, LABEL, torch.arange(6), fanouts=[2], batch_size=3, generator=torch.Generator().manual_seed(0)
        )
    ],
    "predict": lambda graph: predict(MODEL, Batch(graph, X, LABEL)),
    "GraphStore": lambda graph: GraphStore([graph, graph]).batch([1, 0]).edges(),
}
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


WITHOUT_FEATURES = ("adjacency", "random_walk_encoding", "laplacian_encoding", "graclus", "GraphStore", "degree_norm")


@pytest.mark.parametrize("name", [*LAYERS, *FUNCTIONS])
def test_the_bits_are_the_same_whatever_the_graph_came_as(name):
    call = module(*LAYERS[name]) if name in LAYERS else FUNCTIONS[name]
    references = {order: tensors(call(graph)) for order, graph in REFERENCES.items()}
    for kind, graph in OBJECTS.items():
        values = tensors(call(with_nodes(name, kind, graph)))
        expected = references[KINDS[kind][0]]
        assert len(values) == len(expected) > 0
        for value, reference in zip(values, expected):
            assert value.dtype == reference.dtype, kind
            assert torch.equal(value.nan_to_num(), reference.nan_to_num()), kind


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
}


def public_functions():
    """Those of all packages but ``compat``, which has DGL's interface, and of the tools."""
    for module in pkgutil.walk_packages(gnnlib.__path__, "gnnlib."):
        names = module.name.split(".")
        skip = names[1] in ("benchmarks", "compat", "datasets", "kernels", "testing") or any(n[0] == "_" for n in names)
        package = None if skip or not module.ispkg else importlib.import_module(module.name)
        for name in getattr(package, "__all__", ()):
            value = getattr(package, name)
            yield value
            for base in value.__mro__ if inspect.isclass(value) else ():
                if base.__module__.startswith("gnnlib."):
                    yield from (member for key, member in vars(base).items() if not key.startswith("_"))


def test_every_public_function_converts_its_graph():
    functions = [getattr(value, "__func__", value) for value in public_functions()]
    functions = {value for value in functions if inspect.isfunction(value)}
    takes = {value.__qualname__: value for value in functions if "graph" in inspect.signature(value).parameters}
    assert len(takes) > 80
    assert {name for name, value in takes.items() if not getattr(value, "takes_graph", False)} == set(NOT_CONVERTED)


@pytest.mark.parametrize("data", [None, "graph.bin", 3.0, object()])
def test_as_graph_of_what_is_no_graph(data):
    with pytest.raises(TypeError, match=r"^as_graph: expected a graph: a pair \(src, dst\), .*, got "):
        as_graph(data)
