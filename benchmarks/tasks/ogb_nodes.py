"""The Open Graph Benchmark's tasks on nodes: papers, products, proteins."""

from typing import Any

import torch
from torch import Tensor

from gnnlib import datasets
from gnnlib.benchmarks.tasks.base import Options
from gnnlib.benchmarks.tasks.large_nodes import LargeNodes, Nodes
from gnnlib.graph import GraphLike, edge_endpoints, new_graph, to_bidirected


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
    """The citations among papers alone: authors, institutions and fields have no features, and OGB's own GCN and
    GraphSAGE leave them out, too."""

    name = "ogbn-mag"
    summary = "ogbn-mag, 736389 papers and their citations, 349 venues: accuracy (--mode M, --labels A+B)"

    def of_one_type(self, graph: GraphLike, labels: Any) -> tuple[GraphLike, Tensor]:
        papers = graph["paper", "cites", "paper"]
        return papers, labels["paper"]


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
