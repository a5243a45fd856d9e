"""Tests for message-passing layers, of gnnlib or your own: graphs with special cases, and checks for every layer.

Importing this package needs neither pytest nor hypothesis; `on_every_graph` and `properties` make tests for pytest.

Example:
    A layer of one's own, its equation with dense matrices, and its test:

    >>> import torch
    >>> from torch import nn
    >>> import gnnlib
    >>> from gnnlib.nn.conv import Conv
    >>> from gnnlib.testing import Case, on_every_graph, properties
    >>> class MeanConv(Conv):
    ...     takes_edge = "weight"
    ...
    ...     def __init__(self, in_feats, out_feats, *, bias: bool = True):
    ...         super().__init__(in_feats, out_feats)
    ...         self.linear = gnnlib.Linear(in_feats, out_feats, bias=bias)
    ...
    ...     @property
    ...     def bias(self):
    ...         return self.linear.bias
    ...
    ...     def forward(self, graph, x, edge=None):
    ...         x, _ = self.src_features(graph, x)
    ...         edge = self.check_edge(graph, edge)
    ...         return self.linear(gnnlib.aggregate(graph, x, edge, reduce="mean"))
    >>> def reference(conv, dense, x_src, x_dst, edge):
    ...     degree = dense.adjacency().sum(1, keepdim=True).clamp(min=1)
    ...     return conv.linear(dense.adjacency(edge) @ x_src / degree)
    >>> def isolated(conv, x_dst):
    ...     return conv.linear(torch.zeros_like(x_dst))
    >>> CASES = [
    ...     Case("plain", lambda: MeanConv(5, 3), reference, isolated),
    ...     Case("weighted", lambda: MeanConv(5, 3, bias=False), reference, isolated, edge="weight"),
    ... ]
    >>> test_every_graph = on_every_graph(CASES)
    >>> test_properties = properties(CASES)

    A check can also be called on its own:

    >>> from gnnlib.testing import GRAPHS, checks
    >>> checks.equals_reference(CASES[0], GRAPHS["bipartite"]())
    >>> checks.bad_features_are_refused(CASES[0])
"""

from gnnlib.testing.checks import EVERY_GRAPH, ONCE, Case, Dense, Inputs, on_every_graph, properties
from gnnlib.testing.graphs import BIPARTITE, GRAPHS, HOMOGENEOUS, graph_strategy, random_graph

__all__ = [
    "EVERY_GRAPH",
    "GRAPHS",
    "ONCE",
    "BIPARTITE",
    "HOMOGENEOUS",
    "Case",
    "Dense",
    "Inputs",
    "graph_strategy",
    "on_every_graph",
    "properties",
    "random_graph",
]
