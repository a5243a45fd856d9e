"""Layers by their names on the command line.

A layer's factory is ``make(in_feats, out_feats) -> conv``; that of a network on images is ``make(network) -> network``,
with PyTorch's kernels or on a grid graph.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

from torch import Tensor, nn

from gnnlib import (
    ChebConv,
    ECConv,
    GATConv,
    GatedGCNConv,
    GATv2Conv,
    GCNConv,
    GINConv,
    MessageConv,
    MoNetConv,
    PNAConv,
    PredEdgeConv,
    SAGEConv,
    SGConv,
    SplineConv,
)
from gnnlib._platform.dgl import dgl
from gnnlib.benchmarks.errors import UsageError
from gnnlib.grid import from_torch
from gnnlib.ops.linear import Linear


@dataclass(frozen=True)
class Geometry:
    """The inputs that a task has for its layers; empty values for those that it has not."""

    graph: bool = True  # with features on its nodes
    types: bool = False  # of nodes and edges, some of them without features
    hops: bool = False  # features propagated once before training, for layers without a graph
    edge_feats: int = 0
    pos_feats: int = 0
    pos_scale: float = 1.0  # pixels; about the size of an image
    spacing: float = 1.0  # pixels from a node to the next
    image: tuple[int, ...] = ()  # channels, rows, columns


@dataclass(frozen=True)
class LayerSpec:
    """A layer of the catalogue.

    Args:
        name: on the command line
        title: in tables
        make: from a geometry to the layer's factory
        needs: the attribute of `Geometry` that must not be empty
    """

    name: str
    title: str
    make: Callable[[Geometry], Callable[..., nn.Module]]
    needs: str = "graph"

    def fits(self, geometry: Geometry) -> bool:
        """Whether the geometry has what the layer needs."""
        return bool(getattr(geometry, self.needs))


def _heads(kind: Callable[..., nn.Module], in_feats: int, out_feats: int, heads: int = 4) -> nn.Module:
    """Attention heads whose concatenation has the width; one head if the width is not divisible."""
    heads = heads if out_feats % heads == 0 else 1
    return kind(in_feats, out_feats // heads, heads)


def _gin(in_feats: int, out_feats: int) -> nn.Module:
    mlp = nn.Sequential(Linear(in_feats, out_feats), nn.ReLU(), Linear(out_feats, out_feats))
    return GINConv(in_feats, out_feats, apply_func=mlp, learn_eps=True)


def _ecc(geometry: Geometry) -> Callable[[int, int], nn.Module]:
    return partial(ECConv, edge_feats=geometry.edge_feats, hidden=16)


def _monet(geometry: Geometry) -> Callable[[int, int], nn.Module]:
    return partial(MoNetConv, dim=geometry.edge_feats, num_kernels=4)


def _pred_edge(geometry: Geometry) -> Callable[[int, int], nn.Module]:
    return partial(
        PredEdgeConv,
        pos_feats=geometry.pos_feats,
        hidden=32,
        relations=4,
        edge_activation=nn.Tanh(),
        pos_scale=geometry.pos_scale,
    )


def _spline(geometry: Geometry) -> Callable[[int, int], nn.Module]:
    return partial(SplineConv, kernel_size=(3,) * geometry.pos_feats, spacing=geometry.spacing)


def _dense(_: Geometry) -> Callable[[nn.Module], nn.Module]:
    return lambda network: network


def _on_graphs(geometry: Geometry) -> Callable[[nn.Module], nn.Module]:
    return partial(from_torch, input_size=geometry.image, backend="graph")


class Pointwise(Linear):
    """A linear layer on each node, without messages: the control without a graph."""

    def forward(self, graph: dgl.DGLGraph, x: Tensor) -> Tensor:  # type: ignore[override]
        return super().forward(x[: graph.num_dst_nodes()])  # of a block, the destinations


LAYERS = {
    layer.name: layer
    for layer in (
        LayerSpec("mlp", "no graph (control)", lambda _: Pointwise),
        LayerSpec("gcn", "GCN", lambda _: GCNConv),
        LayerSpec("gin", "GIN", lambda _: _gin),
        LayerSpec("sage", "GraphSAGE", lambda _: SAGEConv),
        LayerSpec("gat", "GAT", lambda _: partial(_heads, GATConv)),
        LayerSpec("gatv2", "GATv2", lambda _: partial(_heads, GATv2Conv)),
        LayerSpec("gated-gcn", "GatedGCN", lambda geometry: partial(GatedGCNConv, edge_feats=geometry.edge_feats)),
        LayerSpec("pna", "PNA", lambda geometry: partial(PNAConv, edge_feats=geometry.edge_feats)),
        LayerSpec("message", "Messages", lambda geometry: partial(MessageConv, edge_feats=geometry.edge_feats)),
        LayerSpec("cheb", "ChebNet", lambda _: partial(ChebConv, k=3)),
        LayerSpec("sgc", "SGC", lambda _: partial(SGConv, k=2)),
        LayerSpec("monet", "MoNet", _monet, needs="edge_feats"),
        LayerSpec("ecc", "ECC", _ecc, needs="edge_feats"),
        LayerSpec("pred-edge", "Predicted edges", _pred_edge, needs="pos_feats"),
        LayerSpec("spline", "SplineCNN", _spline, needs="pos_feats"),
        LayerSpec("cnn", "CNN, dense", _dense, needs="image"),
        LayerSpec("cnn-graph", "CNN, graph", _on_graphs, needs="image"),
    )
}


def choices(extra: Iterable[LayerSpec] = ()) -> dict[str, LayerSpec]:
    """The layers by name, with the extra ones of a task."""
    return {**LAYERS, **{layer.name: layer for layer in extra}}


def choose(names: Iterable[str], geometry: Geometry, task: str, extra: Iterable[LayerSpec] = ()) -> list[LayerSpec]:
    """The layers of these names.

    Raises:
        UsageError: for a layer that does not fit the task
    """
    layers = choices(extra)
    fitting = [name for name, layer in layers.items() if layer.fits(geometry)]
    for name in names:
        if name not in fitting:
            raise UsageError(
                f"{task} has no {layers[name].needs} for layer {name!r}; expected one of: {', '.join(fitting)}"
            )
    return [layers[name] for name in names]
