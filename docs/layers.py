"""Writes the table of docs/choosing.md from the layers themselves:  .venv/bin/python -m docs.layers"""

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

import gnnlib
from docs.tables import fill_tables
from gnnlib._platform.dgl import dgl
from gnnlib.testing.graphs import bipartite, block

PAGE = Path(__file__).parent / "choosing.md"
NODES, EDGES, FEATS = 12, 101, 64
EDGE_FEATS, COORDINATES = 8, 2

LAYERS: dict[str, tuple[Callable[[], nn.Module], Callable[[], nn.Module] | None]] = {
    "GCNConv": (lambda: gnnlib.GCNConv(64, 64), None),
    "SGConv": (lambda: gnnlib.SGConv(64, 64, 3), None),
    "SAGEConv": (lambda: gnnlib.SAGEConv(64, 64), None),
    "GINConv": (lambda: gnnlib.GINConv(64, 64), None),
    "GATConv": (lambda: gnnlib.GATConv(64, 16, num_heads=4), None),
    "GATv2Conv": (lambda: gnnlib.GATv2Conv(64, 16, num_heads=4), None),
    "ChebConv": (lambda: gnnlib.ChebConv(64, 64, 3), None),
    "GINEConv": (lambda: gnnlib.GINEConv(64, 64, edge_feats=8), None),
    "GCNEConv": (lambda: gnnlib.GCNEConv(64, 64, 8), None),
    "GatedGCNConv": (lambda: gnnlib.GatedGCNConv(64, 64, 8), lambda: gnnlib.GatedGCNConv(64, 64)),
    "PNAConv": (lambda: gnnlib.PNAConv(64, 64, 8), lambda: gnnlib.PNAConv(64, 64)),
    "MessageConv": (lambda: gnnlib.MessageConv(64, 64, 8), lambda: gnnlib.MessageConv(64, 64)),
    "ECConv": (lambda: gnnlib.ECConv(64, 64, 8), None),
    "MoNetConv": (lambda: gnnlib.MoNetConv(64, 64, 8, num_kernels=3), None),
    "RelGraphConv": (lambda: gnnlib.RelGraphConv(64, 64, 3), None),
    "SplineConv": (lambda: gnnlib.SplineConv(64, 64, 3), None),
    "PredEdgeConv": (lambda: gnnlib.PredEdgeConv(64, 64, 2), None),
}
"""Each layer, with edge features where it takes them, and without them where they are optional."""

HEADER = ["layer", "edge", "own features", "two node sets", "blocks", "heads", "stored per edge", "parameters"]


def random_graph() -> dgl.DGLGraph:
    """Without self-loops; node 0 has no in-edges."""
    generator = torch.Generator().manual_seed(0)
    src = torch.randint(NODES, (EDGES,), generator=generator)
    dst = 1 + torch.randint(NODES - 1, (EDGES,), generator=generator)
    return _with_relations(dgl.graph((src, dst.where(dst != src, (dst % (NODES - 1)) + 1)), num_nodes=NODES))


def _with_relations(graph: dgl.DGLGraph) -> dgl.DGLGraph:
    graph.edata["_TYPE"] = torch.arange(graph.num_edges()) % 3
    return graph


def _edge(conv: nn.Module, graph: dgl.DGLGraph) -> tuple[Tensor, ...]:
    return (torch.rand(graph.num_edges(), EDGE_FEATS, dtype=torch.double),) if conv.takes_edge == "feature" else ()


def _with_positions(graph: dgl.DGLGraph) -> dgl.DGLGraph:
    for data, number in ((graph.srcdata, graph.num_src_nodes()), (graph.dstdata, graph.num_dst_nodes())):
        data["pos"] = torch.rand(number, COORDINATES, dtype=torch.double)
    return graph


def _runs(conv: nn.Module, graph: dgl.DGLGraph, pair: bool) -> bool:
    x = torch.rand(graph.num_src_nodes(), FEATS, dtype=torch.double)
    features = (x, torch.rand(graph.num_dst_nodes(), FEATS, dtype=torch.double)) if pair else x
    try:
        conv(_with_positions(_with_relations(graph)), features, *_edge(conv, graph))
    except ValueError as error:
        if "two node sets" not in str(error):
            raise
        return False
    return True


def _needs_positions(conv: nn.Module) -> bool:
    graph = random_graph()
    try:
        conv(graph, torch.rand(NODES, FEATS, dtype=torch.double), *_edge(conv, graph))
    except ValueError as error:
        if "'pos'" not in str(error):
            raise
        return True
    return False


def _uses_own_features(conv: nn.Module, graph: dgl.DGLGraph) -> bool:
    """Whether node 0, which has no in-edges, has another output for other features."""
    edge = _edge(conv, graph)
    outputs = [conv(graph, torch.full((NODES, FEATS), value, dtype=torch.double), *edge)[0] for value in (0.5, 2.0)]
    return not torch.equal(*outputs)


def _stored_per_edge(conv: nn.Module, graph: dgl.DGLGraph) -> float:
    """Numbers per edge that the backward pass needs, without the edge values that were passed."""
    edge = _edge(conv, graph)
    stored: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        if tensor.dim() and len(tensor) == EDGES and all(tensor.data_ptr() != e.data_ptr() for e in edge):
            stored[tensor.data_ptr()] = tensor.numel()
        return tensor

    x = torch.rand(NODES, FEATS, dtype=torch.double, requires_grad=True)
    with saved_tensors_hooks(pack, lambda tensor: tensor):
        conv(graph, x, *edge)
    return sum(stored.values()) / EDGES


def _mark(value: bool) -> str:
    return "yes" if value else "no"


def _edge_kind(conv: nn.Module, optional: bool) -> str:
    if _needs_positions(conv):
        return "none; positions"
    kind = {"weight": "weight", "feature": "features", None: "none"}[conv.takes_edge]
    return f"{kind}, optional" if optional else kind


def _node_sets(conv: nn.Module) -> str:
    if not _runs(conv, bipartite(), pair=True):
        return "no"
    return "yes, two widths" if conv.two_widths else "yes"


def _row(name: str) -> list[str]:
    torch.manual_seed(0)
    make, make_without = LAYERS[name]
    conv, graph = make().double(), _with_positions(random_graph())
    optional = make_without is not None and make_without().takes_edge is None
    return [
        f"`{name}`",
        _edge_kind(conv, optional),
        _mark(_uses_own_features(conv, graph)),
        _node_sets(conv),
        _mark(_runs(conv, block(), pair=False)),
        _mark(hasattr(conv, "num_heads")),
        f"{_stored_per_edge(conv, graph):g}",
        f"{sum(p.numel() for p in conv.parameters()):,}",
    ]


def table() -> str:
    """What each layer takes, a row per layer."""
    rows = [HEADER, ["---"] * len(HEADER), *map(_row, LAYERS)]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def with_tables(page: str) -> str:
    return fill_tables(page, {"layers": table})


if __name__ == "__main__":
    PAGE.write_text(with_tables(PAGE.read_text("utf-8")), "utf-8")
