"""Workloads on a GPU: layers, sums and a graph of the size of ogbn-products, in float32, TF32 and bfloat16.

The graph is on the CPU, where DGL's CPU wheel can hold it, or was generated on the card. Features, layers and the
adjacency are on the card. All cases also run on the device "cpu", for tests.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial

import torch
from torch import Tensor

import gnnlib
from gnnlib.benchmarks.speed import single
from gnnlib.benchmarks.speed.graphs import NUM_LINKS, NUM_NODES, power_law_graph, regular_graph
from gnnlib.benchmarks.speed.layers import (
    GAT,
    GCN,
    GIN,
    SAGE,
    Kind,
    csr,
    ecc,
    gather_scatter,
    messages,
    pyg,
)
from gnnlib.benchmarks.speed.measure import BFLOAT16, TOLERANCE, Case, Workload
from gnnlib.graph import GraphLike

PRODUCTS = (2_449_029, 61_859_140)
"""The numbers of nodes and links of ogbn-products (Hu et al. 2020, arXiv 2005.00687, table 2)."""
TF32 = 1e-2  # of the differences of outputs, relative to the largest value
TOLERANCES = {"float32": TOLERANCE, "tf32": TF32, "bfloat16": BFLOAT16}
LABELS = {"tf32": "TF32", "bfloat16": "bfloat16"}


def arithmetic(precision: str, device: torch.device) -> AbstractContextManager:
    """A context with products in float32, TF32 or bfloat16 (autocast)."""
    if precision == "bfloat16":
        return torch.autocast(device.type, torch.bfloat16)
    return _matmul_precision("high") if precision == "tf32" else nullcontext()


@contextmanager
def _matmul_precision(precision: str) -> Iterator[None]:
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(precision)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def products_graph(device: torch.device, shrink: int) -> GraphLike:
    """Edges to popular nodes and their reverses, generated on the device: 123,718,280 edges if ``shrink`` is 1."""
    num_nodes, num_links = (size // shrink for size in PRODUCTS)
    random = torch.Generator(device).manual_seed(0)
    share = (torch.arange(num_nodes, device=device, dtype=torch.float64) + 10.0) ** -0.7
    order = torch.randperm(num_nodes, generator=random, device=device)
    position = torch.rand(num_links, generator=random, device=device, dtype=torch.float64) * share.sum()
    popular = order[torch.searchsorted(share.cumsum(0), position).clamp_(max=num_nodes - 1)]
    uniform = torch.randint(num_nodes, (num_links,), generator=random, device=device)
    edges = torch.stack([torch.cat([popular, uniform]), torch.cat([uniform, popular])])
    return gnnlib.as_graph(edges, torch.empty(num_nodes, 0, device=device))


def _large(device: torch.device, shrink: int) -> GraphLike:
    return power_law_graph(NUM_NODES // shrink, NUM_LINKS // shrink)


def _endpoints(graph: GraphLike, device: torch.device) -> Tensor:
    return torch.stack(gnnlib.graph.edge_endpoints(graph)).to(device)


def step_case(
    kind: Kind,
    make_graph: Callable[[torch.device, int], GraphLike],
    widths: Sequence[int],
    *,
    precision: str,
    device: torch.device,
    shrink: int,
    sweeps: int = 0,
    edge_feats: int = 0,
) -> Case:
    """A training step of a stack of layers, beside PyG's on an edge list, on that list under ``torch.compile``, on its
    EdgeIndex and on a sparse matrix."""
    torch.manual_seed(0)
    graph = make_graph(device, shrink)
    layers = {name: net.to(device) for name, net in kind.layers(widths).items() if name != "dgl"}
    x = 1e-3 * torch.randn(graph.num_nodes(), widths[0], device=device)
    x = x.bfloat16() if precision == "bfloat16" else x
    target = torch.randint(0, single.CLASSES, (len(x),), device=device)
    edge = [torch.randn(graph.num_edges(), edge_feats, device=device).to(x)] if edge_feats else []
    calls: dict[str, single.Call] = {"gnnlib": lambda layer, h: layer(graph, h, *edge)}
    peers = single.peer_calls(kind, graph, x, edge)
    nets = {"gnnlib": layers["ours"], **dict.fromkeys(peers, layers["pyg"])}
    runs: dict[str, Callable[[], Tensor]] = {
        name: partial(single.forward, nets[name], call, x) for name, call in (calls | peers).items()
    }
    if "pyg" in runs:
        nets["pyg-compiled"], runs["pyg-compiled"] = layers["pyg"], _compiled(runs["pyg"])
    if "dense" in layers:
        nets["dense"] = layers["dense"]
        runs["dense"] = partial(single.forward, layers["dense"], lambda layer, h: layer(h), x)
    runs = {name: _in_arithmetic(run, precision, device) for name, run in runs.items()}
    case = Case(
        steps={name: single.training(nets[name], run, target) for name, run in runs.items()},
        outputs={name: run for name, run in runs.items() if name != "dense"},
        tolerance=TOLERANCES[precision],
    )
    case.sweeps, case.moved = sweeps, traffic(graph, widths[-1], x.element_size())
    return case


def _compiled(run: Callable[[], Tensor]) -> Callable[[], Tensor]:
    torch.compiler.reset()  # the cases share code, whose compilations are counted
    return torch.compile(run, backend=single.COMPILER)


def _in_arithmetic(run: Callable[[], Tensor], precision: str, device: torch.device) -> Callable[[], Tensor]:
    def inside() -> Tensor:
        with arithmetic(precision, device):
            return run().float()

    return inside


def sum_case(
    make_graph: Callable[[torch.device, int], GraphLike],
    coeffs: int,
    *,
    precision: str,
    device: torch.device,
    shrink: int,
    width: int = single.WIDTH,
) -> Case:
    """The sum over in-edges without gradients: unweighted, or with a weight for each edge and head."""
    torch.manual_seed(0)
    graph, dtype = make_graph(device, shrink), torch.bfloat16 if precision == "bfloat16" else torch.float32
    heads = (coeffs,) if coeffs > 1 else ()
    x = torch.randn(graph.num_nodes(), *heads, width // max(coeffs, 1), device=device, dtype=dtype)
    weight = torch.rand(graph.num_edges(), *heads, device=device, dtype=dtype) if coeffs else None
    outputs: dict[str, Callable[[], Tensor]] = {"gnnlib": lambda: gnnlib.aggregate(graph, x, weight)}
    if pyg():
        index, plain, weighted = _endpoints(graph, device), pyg().SimpleConv("sum"), gather_scatter()
        outputs["pyg"] = lambda: plain(x, index) if weight is None else weighted(x, index, weight)
        outputs["pyg-compiled"] = _compiled(outputs["pyg"])
    if not heads and dtype == torch.float32:
        matrix = csr(graph, weight, device)
        outputs["csr"] = lambda: torch.sparse.mm(matrix, x)
    outputs = {name: _as_float(output) for name, output in outputs.items()}
    case = Case({name: torch.no_grad()(output) for name, output in outputs.items()}, outputs)
    case.tolerance, case.sweeps = TOLERANCES[precision], 1
    case.moved = traffic(graph, width, x.element_size(), coeffs)
    return case


def _as_float(output: Callable[[], Tensor]) -> Callable[[], Tensor]:
    return lambda: output().float()


def traffic(graph: GraphLike, width: int, size: int, coeffs: int = 0) -> int:
    """The bytes that an aggregation reads and writes at least, if it reads the row of a neighbour for each edge."""
    edges = graph.num_edges() * (width * size + 4 + coeffs * size + 4 * (coeffs > 0))
    return edges + graph.num_nodes() * (width * size + 4)


def workloads(device: torch.device) -> list[Workload]:
    """The catalogue of workloads on a device."""
    sums = [("sum", "sum", 0), ("weighted", "sum, one weight", 1), ("heads", "sum, four heads", 4)]
    kinds = [("gcn", GCN, 5), ("gin", GIN, 5), ("sage", SAGE, 5), ("gat", GAT, 9)]
    widths = [single.WIDTH] * 4
    entries: list[tuple[str, str, str, str, Callable[..., Case]]] = [
        *(
            (name, title, "aggregation", precision, partial(sum_case, _large, coeffs))
            for precision in ("float32", "bfloat16")
            for name, title, coeffs in sums
        ),
        *(
            (name, kind.title, "layers", precision, partial(step_case, kind, _large, widths, sweeps=sweeps))
            for precision in TOLERANCES
            for name, kind, sweeps in kinds
        ),
        ("ecc", "ECC, hidden 16", "ecc", "float32", partial(step_case, ecc(8, 16), _regular, [32, 32], edge_feats=8)),
        (
            "messages",
            "messages, mean and max",
            "messages",
            "float32",
            partial(step_case, messages(2), _regular, [64, 64], edge_feats=2),
        ),
        ("products-sum", "products, sum", "products", "float32", partial(sum_case, products_graph, 0)),
        *(
            (
                "products-gcn",
                "products, GCN",
                "products",
                precision,
                partial(step_case, GCN, products_graph, widths, sweeps=5),
            )
            for precision in ("float32", "bfloat16")
        ),
    ]
    return [_workload(device, *entry) for entry in entries]


def _workload(
    device: torch.device, name: str, title: str, group: str, precision: str, case: Callable[..., Case]
) -> Workload:
    if precision != "float32":
        name, title = f"{name}-{precision}", f"{title}, {LABELS[precision]}"
    return Workload(name, title, group, lambda shrink: case(precision=precision, device=device, shrink=shrink))


def _regular(device: torch.device, shrink: int) -> GraphLike:
    return regular_graph(25_000 // shrink, 8)
