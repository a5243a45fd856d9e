"""The Open Graph Benchmark's tasks on nodes: papers, products, proteins."""

from dataclasses import replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from gnnlib import datasets
from gnnlib.benchmarks.catalog.layers import LayerSpec
from gnnlib.benchmarks.errors import UsageError
from gnnlib.benchmarks.tasks.base import Options
from gnnlib.benchmarks.tasks.large_nodes import LargeNodes, Nodes, Setting
from gnnlib.benchmarks.tasks.node_modes import Mode, TypedFull, TypedSampled
from gnnlib.datasets.ogb_files import PAPER
from gnnlib.graph import Graph, GraphLike, edge_endpoints, makes_dgl, new_graph, relation_graph, to_bidirected
from gnnlib.models import RGCN


class OGBNodes(LargeNodes):
    """With OGB's loader, split and evaluator."""

    def read(self, options: Options) -> Nodes:
        dataset, split, metric = datasets.ogb_nodes(self.name, options.data)
        graph, labels = self.of_one_type(*dataset[0])
        src, dst = edge_endpoints(graph)
        feat = graph.ndata["feat"] if "feat" in graph.ndata else _mean_over_edges(graph.edata["feat"], dst, len(labels))
        graph = self.links(new_graph(src, dst, len(labels)))
        return Nodes(graph, feat, labels, split, metric, metric.out_feats)

    def of_one_type(self, graph: GraphLike, labels: Any) -> tuple[GraphLike, Tensor]:
        """It is."""
        return graph, labels

    def links(self, graph: GraphLike) -> GraphLike:
        """In both directions: they already are."""
        return graph


def _mean_over_edges(feat: Tensor, dst: Tensor, num_nodes: int) -> Tensor:
    """Of the features (E, F) of a node's in-edges."""
    total = torch.zeros(num_nodes, feat.shape[1]).index_add_(0, dst, feat)
    return total / torch.bincount(dst, minlength=num_nodes).clamp(1).unsqueeze(1)


class Arxiv(OGBNodes):
    name = "ogbn-arxiv"
    summary = "ogbn-arxiv, 169343 papers, 40 subjects: accuracy with OGB's split (--mode M, --labels A+B)"

    def links(self, graph: GraphLike) -> GraphLike:
        return to_bidirected(graph)


class Mag(Arxiv):
    """Authors, institutions and fields have no features. The layer "rgcn" learns embeddings of them, as OGB's RGCN does
    (``examples/nodeproppred/mag``). All other layers take the citations among papers alone, as OGB's own GCN and
    GraphSAGE do."""

    name = "ogbn-mag"
    summary = "ogbn-mag, papers, authors, fields, institutions, 349 venues: accuracy (--mode M, --labels A+B)"
    extra_layers = (*LargeNodes.extra_layers, LayerSpec("rgcn", "RGCN", lambda _: RGCN, needs="types"))
    layers = (*LargeNodes.layers, "rgcn")
    typed_settings: ClassVar[dict[str, Setting]] = {"full": Setting(50), "sampled": Setting(3, 0.01, 1024)}
    typed_fanouts: ClassVar[tuple[int, ...]] = (25, 20)
    typed_width: ClassVar[int] = 64

    def load(self, options: Options) -> None:
        super().load(options)
        serves = self.mode in self.typed_settings and "input" not in self.uses
        self.geometry = replace(self.geometry, types=serves)

    def of_one_type(self, graph: GraphLike, labels: Any) -> tuple[GraphLike, Tensor]:
        self.typed = with_inverse_edges(graph)
        return relation_graph(graph, "cites"), labels[PAPER]

    def _setting(self, layer: LayerSpec) -> Setting:
        return self.typed_settings[self.mode] if layer.needs == "types" else super()._setting(layer)

    def _mode(self, layer: LayerSpec) -> Mode:
        if layer.needs != "types":
            return super()._mode(layer)
        if self.mode == "full":
            return TypedFull(self.typed, PAPER, self.device)
        return TypedSampled(self.typed, PAPER, self.device, self.typed_fanouts, self._setting(layer).batch_size)

    def _features(self, layer: LayerSpec) -> Any:
        if layer.needs != "types":
            return super()._features(layer)
        return {ntype: torch.arange(num) for ntype, num in self._without_features().items()} | {PAPER: self.feat}

    def _without_features(self) -> dict[str, int]:
        return {ntype: self.typed.num_nodes(ntype) for ntype in self.typed.ntypes if ntype != PAPER}

    def _build(self, layer: LayerSpec, in_feats: int) -> tuple[nn.Module, dict[str, float]]:
        if layer.needs != "types":
            return super()._build(layer, in_feats)
        if self.remedies != self.remedy:
            raise UsageError(
                f"--remedy: expected another layer than rgcn, whose network is fixed, got {self.remedies!r}"
            )
        widths, etypes = (in_feats, self.typed_width, self.num_outputs), self.typed.canonical_etypes
        model = RGCN(etypes, *widths, len(self.typed_fanouts), ntype=PAPER, embeddings=self._without_features())
        return model.to(self.device), {}


def with_inverse_edges(graph: GraphLike) -> GraphLike:
    """The graph with the inverse of each edge type between two node types, and each edge within one in both directions,
    once."""
    edges: dict[Any, tuple[Tensor, Tensor]] = {}
    for etype in graph.canonical_etypes:
        relation, (source, name, destination) = relation_graph(graph, etype), etype
        if source == destination:
            edges[etype] = edge_endpoints(to_bidirected(relation))
        else:
            src, dst = edge_endpoints(relation)
            edges[etype], edges[destination, f"rev_{name}", source] = (src, dst), (dst, src)
    typed = Graph(edges, {ntype: graph.num_nodes(ntype) for ntype in graph.ntypes})
    return typed.to_dgl() if makes_dgl() else typed


class Products(OGBNodes):
    name = "ogbn-products"
    summary = "ogbn-products, 2449029 products bought together, 47 classes (--mode M, --labels A+B)"
    fanouts = (5, 10, 15)


class Proteins(OGBNodes):
    name = "ogbn-proteins"
    summary = "ogbn-proteins, 132534 proteins, 112 functions: ROC-AUC; features are the mean of the edges' (--mode M)"
    metric = "test ROC-AUC"
    extra_layers = LargeNodes.extra_layers[:-1]
    label_uses = ()  # there are many labels a node


class Papers100M(OGBNodes):
    """Citations in one direction: in both they would be more than the int32 index arrays can count."""

    name = "ogbn-papers100M"
    summary = "ogbn-papers100M, 111 million papers: 120 GB of memory to load, then --mode propagated"
