"""A device that computes on the CPU and has the rules of a GPU, and programs that run on it.

A tensor on the device "card" is a wrapper of a tensor on the CPU. An operation on tensors of both devices raises an
error, as on a GPU, and so does a conversion to NumPy. PyTorch has one such device per process, so the tests call the
programs by `tests.served`. Kernels on it are `gnnlib.kernels.reference`, or Triton's in the interpreter.
"""

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest import mock

import pytest
import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing

import gnnlib
from gnnlib import analysis, kernels, train
from gnnlib.grid import from_torch
from gnnlib.images import pixel_batch
from gnnlib.large import layerwise_inference, sampled_batches
from gnnlib.testing.checks import devices_do_not_matter
from gnnlib.testing.graphs import batch, communities, random_graph

NAME = "card"
TAKES_BOTH = {"aten::_to_copy", "aten::copy_", "aten::index", "aten::index_put_", "aten::_index_put_impl_"}


class Card(Tensor):
    """A tensor on the card; ``host`` is the tensor on the CPU with its numbers."""

    @staticmethod
    def __new__(cls, host: Tensor):
        options = dict(strides=host.stride(), storage_offset=host.storage_offset(), dtype=host.dtype)
        return Tensor._make_wrapper_subclass(cls, host.size(), device=torch.device(NAME, 0), **options)

    def __init__(self, host: Tensor):
        self.host = host

    def tolist(self) -> Any:
        return self.detach().cpu().tolist()

    @classmethod
    def __torch_dispatch__(cls, function, types, args=(), kwargs=None):
        return compute(function, args, kwargs or {})


class CardMode(TorchDispatchMode):
    """Makes tensors on the card where ``device="card"`` asks for one."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        return compute(function, args, kwargs or {})


def compute(function: Any, args: tuple, kwargs: dict) -> Any:
    """An operation on the CPU, whose result is on the card if its arguments are, or if it asks for the device."""
    tensors = [t for t in pytree.tree_leaves((args, kwargs)) if isinstance(t, Tensor)]
    cards, name = [t for t in tensors if isinstance(t, Card)], function._schema.name
    mixed = cards and any(t.dim() and not isinstance(t, Card) for t in tensors)
    if mixed and name not in TAKES_BOTH:
        raise RuntimeError(f"Expected all tensors to be on the same device, got card and cpu in {name}")
    device = kwargs.get("device")
    on_card = bool(cards) if device is None else torch.device(device).type == NAME
    if name == "aten::copy_":
        on_card = isinstance(args[0], Card)
    result = function(*pytree.tree_map(_host, args), **pytree.tree_map(_host, kwargs))
    if not on_card:
        return result
    result = pytree.tree_map(lambda t: Card(t) if isinstance(t, Tensor) else t, result)
    return return_and_correct_aliasing(function, args, kwargs, result) if cards else result


def _host(value: Any) -> Any:
    if isinstance(value, Card):
        return value.host
    return torch.device("cpu") if isinstance(value, torch.device) else value


@contextmanager
def setting() -> Iterator[None]:
    """Registers the device, and makes its tensors."""
    from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

    torch.set_num_threads(1)
    _setup_privateuseone_for_python_backend(NAME)
    torch.card.get_amp_supported_dtype = lambda: [torch.float32, torch.bfloat16]  # type: ignore[attr-defined]
    with CardMode():
        yield


# ---------------------------------------------------------------- modules

EDGE_FEATS = 2
MODULES: dict[str, Callable[[], nn.Module]] = {
    "GCNConv": lambda: gnnlib.GCNConv(6, 4),
    "GINConv": lambda: gnnlib.GINConv(6, 4),
    "SAGEConv": lambda: gnnlib.SAGEConv(6, 4, reduce="pool"),
    "GATConv": lambda: gnnlib.GATConv(6, 4, num_heads=2),
    "GATv2Conv": lambda: gnnlib.GATv2Conv(6, 4, num_heads=2),
    "SGConv": lambda: gnnlib.SGConv(6, 4, k=2),
    "ChebConv": lambda: gnnlib.ChebConv(6, 4, k=2),
    "PNAConv": lambda: gnnlib.PNAConv(6, 4),
    "DropMessage": lambda: gnnlib.DropMessage(gnnlib.SAGEConv(6, 4), 0.5),
    "ECConv": lambda: gnnlib.ECConv(6, 4, edge_feats=EDGE_FEATS),
    "MoNetConv": lambda: gnnlib.MoNetConv(6, 4, EDGE_FEATS, num_kernels=3),
    "GatedGCNConv": lambda: gnnlib.GatedGCNConv(6, 4, EDGE_FEATS),
    "GINEConv": lambda: gnnlib.GINEConv(6, 4, edge_feats=EDGE_FEATS),
    "GCNEConv": lambda: gnnlib.GCNEConv(6, 4, edge_feats=EDGE_FEATS),
    "RelGraphConv": lambda: gnnlib.RelGraphConv(6, 4, num_rels=3),
    "MessageConv": lambda: gnnlib.MessageConv(6, 4, edge_feats=EDGE_FEATS),
    "APPNP": lambda: nn.ModuleList([gnnlib.APPNP(2)])[0],
    "VirtualNode": lambda: gnnlib.VirtualNode([gnnlib.GNNLayer(gnnlib.GCNConv(6, 6))], 6),
    "MeanReadout": lambda: gnnlib.MeanReadout(6),
    "AttentionReadout": lambda: gnnlib.AttentionReadout(6, 4),
    "Set2Set": lambda: gnnlib.Set2Set(6, num_layers=2),
    "SortPool": lambda: gnnlib.SortPool(6, k=4),
    **{
        f"norm {norm}": lambda norm=norm: gnnlib.Stack.build(gnnlib.GCNConv, 6, 8, 3, num_layers=2, norm=norm)
        for norm in (
            "batchnorm",
            "layernorm",
            "graphnorm",
            "pairnorm",
            "pairnorm-scs",
            "diffgroup",
            "nodenorm",
            "contranorm",
        )
    },
    **{
        f"skip {skip}": lambda skip=skip: gnnlib.Stack.build(gnnlib.GCNConv, 6, 8, 3, num_layers=3, skip=skip)
        for skip in ("residual", "linear-residual", "dense")
    },
    "drop_edge": lambda: gnnlib.Stack.build(gnnlib.GCNConv, 6, 8, 3, num_layers=2, drop_edge=0.5),
    "checkpoint": lambda: gnnlib.Stack.build(gnnlib.GATConv, 6, 8, 3, num_layers=2, checkpoint=True),
}
WITH_EDGES = {"ECConv", "MoNetConv", "GatedGCNConv", "GINEConv", "GCNEConv", "MessageConv"}


def compare_module(name: str) -> None:
    """Outputs and gradients of a module on the card and on the CPU, the graph being on the CPU."""
    torch.manual_seed(0)
    graph, on_cpu = batch(), MODULES[name]()
    on_card = copy.deepcopy(on_cpu).to(NAME)
    x, edge = torch.randn(graph.num_nodes(), 6), torch.rand(graph.num_edges(), EDGE_FEATS)
    graph.edata["_TYPE"] = torch.arange(graph.num_edges()) % 3
    expected = outputs(on_cpu, graph, x, *([edge] if name in WITH_EDGES else []))
    results = outputs(on_card, graph, x.to(NAME), *([edge.to(NAME)] if name in WITH_EDGES else []))
    for a, b in zip(results, expected, strict=True):
        assert a.device.type == NAME
        torch.testing.assert_close(a.cpu(), b, rtol=1e-4, atol=1e-4)


def outputs(module: nn.Module, graph: Any, x: Tensor, *edge: Tensor) -> tuple[Tensor, ...]:
    """The output, and the gradients of the input and of all parameters."""
    torch.manual_seed(1)
    x.requires_grad_()
    y = module(graph, x, *edge)
    grads = torch.autograd.grad(y.square().mean(), [x, *module.parameters()], allow_unused=True)
    return y.detach(), *(g for g in grads if g is not None)


def check_layer(name: str) -> None:
    """The acceptance check of devices, for a case of `tests.test_torch_tools`."""
    from tests.test_torch_tools import BY_NAME

    devices_do_not_matter(BY_NAME[name], NAME)


def compare_triton(name: str) -> None:
    """As `compare_module`, with the kernels in Triton on the card: in the interpreter, on memory of the CPU."""
    from gnnlib.kernels import cuda
    from gnnlib.kernels.cuda import launch

    kind, launches = type(launch.jit(lambda: None)), []
    reference_choice, run = kernels.choose, kind.run

    def choose(like: Tensor):
        return cuda if isinstance(like, Card) and like.is_floating_point() else reference_choice(like)

    def run_on_host(kernel, *args, **options):
        launches.append(kernel)
        with torch.utils._python_dispatch._disable_current_modes():
            return run(kernel, *map(_host, args), **options)

    with mock.patch.object(kernels, "choose", choose), mock.patch.object(kind, "run", run_on_host):
        compare_module(name)
    assert launches


# ---------------------------------------------------------------- programs


def train_on_nodes() -> None:
    """`fit` moves the model and the tensors, and leaves a graph of a DGL without CUDA where it is."""
    graph, columns, parts = nodes()
    model = gnnlib.Stack.build(
        gnnlib.GCNConv, columns["feat"].shape[1], 8, 4, num_layers=2, norm="batchnorm", dropout=0.5
    )
    data = {part: train.Batch.from_graph(graph, rows=rows) for part, rows in parts.items()}
    gnnlib.fit(model, data["train"], val=data["valid"], epochs=2, device=NAME)
    assert {p.device.type for p in model.parameters()} == {NAME}
    assert 0 <= gnnlib.evaluate(model, data["test"])["accuracy"] <= 1
    assert gnnlib.predict(model, graph).shape == (graph.num_nodes(), 4)


def train_in_bfloat16() -> None:
    graph, columns, parts = nodes()
    model = gnnlib.Stack.build(gnnlib.SAGEConv, columns["feat"].shape[1], 8, 4, num_layers=2)
    gnnlib.fit(model, train.Batch.from_graph(graph, rows=parts["train"]), epochs=1, device=NAME, precision="bfloat16")


def train_on_a_store() -> None:
    graphs = [random_graph(11, 23, seed) for seed in range(6)]
    for graph in graphs:
        graph.ndata["feat"] = torch.rand(11, 6)
    store = gnnlib.GraphStore(graphs, labels=torch.arange(6) % 2)
    model = gnnlib.Stack.build(gnnlib.GINConv, 6, 8, 2, num_layers=2, readout="mean")
    gnnlib.fit(model, store.loader(3, shuffle=True), val=store, epochs=2, device=NAME)
    assert gnnlib.predict(model, store).shape == (6, 2)


def train_on_samples() -> None:
    """Sampled neighbours, and the outputs of all nodes layer by layer."""
    graph, columns, parts = nodes()
    x, label, generator = columns["feat"], columns["label"], torch.Generator().manual_seed(0)
    model = gnnlib.Stack.build(gnnlib.SAGEConv, x.shape[1], 8, 4, num_layers=2)
    options = dict(fanouts=(3, 3), batch_size=40, generator=generator, device=NAME)
    gnnlib.fit(model, lambda: sampled_batches(graph, x, label, parts["train"], **options), epochs=1, device=NAME)
    y = layerwise_inference(model, graph, x, batch_size=64, device=NAME)
    expected = layerwise_inference(model.to("cpu"), graph, x, batch_size=64)
    torch.testing.assert_close(y.cpu(), expected, rtol=1e-4, atol=1e-4)


def diagnose() -> None:
    graph, columns, _ = nodes()
    x, label = columns["feat"], columns["label"]
    model = gnnlib.Stack.build(gnnlib.GCNConv, x.shape[1], 8, 4, num_layers=3)
    expected = str(analysis.diagnose(model, graph, x, label))
    assert str(analysis.diagnose(model.to(NAME), graph, x.to(NAME), label.to(NAME))) == expected


def convert_a_cnn() -> None:
    net = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(64, 3))
    converted, graph, x = from_torch(net, (1, 8, 8)), pixel_batch((8, 8), 2), torch.rand(2 * 64, 1)
    expected = converted(graph, x)
    y = converted.to(NAME)(graph, x.to(NAME))
    torch.testing.assert_close(y.cpu(), expected)


def explain_two_devices() -> None:
    """Features on another device than the parameters raise an error of one sentence."""
    conv, graph = gnnlib.GCNConv(6, 4).to(NAME), random_graph()
    with pytest.raises(ValueError, match=r"^GCNConv: expected x on the parameters' device, card:0, got cpu$"):
        conv(graph, torch.randn(graph.num_nodes(), 6))


def save_and_load() -> None:
    """A model is saved from the card, and loaded onto it."""
    model = gnnlib.Stack.build(gnnlib.GCNConv, 6, 8, 2, num_layers=2).to(NAME)
    with TemporaryDirectory() as folder:
        gnnlib.save_model(model, Path(folder, "model"))
        loaded = gnnlib.load_model(Path(folder, "model"), device=NAME)
        on_cpu = gnnlib.load_model(Path(folder, "model"))
    for a, b, c in zip(model.parameters(), loaded.parameters(), on_cpu.parameters(), strict=True):
        assert (b.device.type, c.device.type) == (NAME, "cpu")
        assert torch.equal(a.cpu(), b.cpu())
        assert torch.equal(a.cpu(), c)


def nodes() -> tuple[Any, dict[str, Tensor], dict[str, Tensor]]:
    graph, parts = communities(80)
    return graph, {name: graph.ndata[name] for name in ("feat", "label")}, parts


PROGRAMS: dict[str, Callable[[], None]] = {
    f.__name__: f
    for f in (
        train_on_nodes,
        train_in_bfloat16,
        train_on_a_store,
        train_on_samples,
        diagnose,
        convert_a_cnn,
        explain_two_devices,
        save_and_load,
    )
}
FUNCTIONS: dict[str, Callable[..., None]] = {
    "compare_module": compare_module,
    "check_layer": check_layer,
    "compare_triton": compare_triton,
    **PROGRAMS,
}
