"""Workloads on growth: the same step with more edges, or wider."""

from collections.abc import Callable

from gnnlib._platform.dgl import dgl
from gnnlib.benchmarks.speed import graphs
from gnnlib.benchmarks.speed.layers import GAT, GCN
from gnnlib.benchmarks.speed.measure import Case
from gnnlib.benchmarks.speed.single import WIDTH, aggregation_case, step_case

STEPS: dict[str, Callable[[dgl.DGLGraph, int], Case]] = {
    "aggregate": lambda graph, width: aggregation_case(graph, width=width),
    "gcn": lambda graph, width: step_case(GCN, graph, [width] * 4),
    "gat": lambda graph, width: step_case(GAT, graph, [width] * 4),
    "dense": lambda graph, width: step_case(GCN, graph, [width] * 4),
}


def along_edges(step: str, num_nodes: int, num_links: int) -> Case:
    """1, 4 and 16 times the edges between the same nodes."""
    sizes = {f"x{n}": (graphs.power_law_graph(num_nodes, num_links * n), WIDTH) for n in (1, 4, 16)}
    return _growth(step, sizes)


def along_width(step: str, num_nodes: int, num_links: int) -> Case:
    """A quarter of the width, half of it, and all of it."""
    graph = graphs.power_law_graph(num_nodes, num_links)
    return _growth(step, {f"x{n}": (graph, n * WIDTH // 4) for n in (1, 2, 4)})


def _growth(step: str, sizes: dict[str, tuple[dgl.DGLGraph, int]]) -> Case:
    contender = "dense" if step == "dense" else "gnnlib"
    steps = {name: STEPS[step](*size).steps[contender] for name, size in sizes.items()}
    return Case(steps, factors={name: float(name[1:]) for name in steps})
