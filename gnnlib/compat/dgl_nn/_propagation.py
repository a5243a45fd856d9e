"""Degree-normalised sums over neighbours: GraphConv, EdgeWeightNorm, and the layers of several hops."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from gnnlib._platform.dgl import dgl
from gnnlib.compat.dgl_nn._adapter import Adapter, Features, activated, is_training_dropout, per_node, reduce_messages
from gnnlib.graph import Adjacency, adjacency
from gnnlib.graph._check import check_graph, check_one_node_set
from gnnlib.nn.conv.cheb import chebyshev_terms
from gnnlib.nn.conv.gcn import graph_convolution
from gnnlib.ops import aggregate, degree_norm, gather_dst, gather_src, propagate
from gnnlib.ops.autograd.sums import sum_edges
from gnnlib.ops.degrees import degree_factors
from gnnlib.ops.linear import linear


class EdgeWeightNorm(Adapter, dgl.nn.EdgeWeightNorm):
    """``dgl.nn.EdgeWeightNorm``: edge weights divided by the weighted degrees of both ends.

    Example:
        >>> import torch
        >>> import dgl
        >>> from gnnlib.compat.dgl_nn import EdgeWeightNorm
        >>> g = dgl.graph(([0, 1, 2], [1, 0, 0]))
        >>> EdgeWeightNorm("right")(g, torch.tensor([1.0, 1.0, 3.0])).tolist()
        [1.0, 0.25, 0.75]
    """

    def forward(self, graph: dgl.DGLGraph, edge_weight: Tensor) -> Tensor:
        """Normalise the weights.

        Args:
            graph: a graph, a block or a bipartite graph
            edge_weight: (E,)

        Returns:
            The normalised weights, (E,).

        Raises:
            DGLError: if the weights have a second axis, or, for "both", one is not positive
        """
        check_graph("EdgeWeightNorm", graph)
        adj = adjacency(graph, getattr(edge_weight, "device", None))
        self.edge_weights(adj, edge_weight)
        if edge_weight.dim() > 1:
            raise dgl.DGLError(
                f"EdgeWeightNorm: expected a scalar for each edge, (E,), got shape {tuple(edge_weight.shape)}"
            )
        if self._norm == "both" and bool((edge_weight <= 0).any()):
            raise dgl.DGLError(
                f"EdgeWeightNorm: expected positive edge weights for norm='both', got {edge_weight.min().item():.4g}"
            )
        if self._norm == "none":
            return edge_weight

        def degrees(view: Adjacency) -> Tensor:
            return sum_edges(view, edge_weight.unsqueeze(1)) + self._eps

        if self._norm == "both":
            src, dst = degrees(adj.reverse()) ** -0.5, degrees(adj) ** -0.5
            return edge_weight * (gather_src(adj, src) * gather_dst(adj, dst)).squeeze(1)
        return edge_weight * gather_dst(adj, 1 / degrees(adj)).squeeze(1)


_both = EdgeWeightNorm("both")
"""The normalisation of weights in the layers of several hops."""


class GraphConv(Adapter, dgl.nn.GraphConv):
    """``dgl.nn.GraphConv`` (Kipf and Welling 2017) on gnnlib's kernels.

    The arguments, values, gradients, errors and state dict are DGL's.

    Example:
        >>> import torch
        >>> import dgl
        >>> from gnnlib.compat.dgl_nn import GraphConv
        >>> g = dgl.add_self_loop(dgl.graph(([0, 1], [1, 0])))
        >>> GraphConv(3, 2, activation=torch.relu)(g, torch.ones(2, 3)).shape
        torch.Size([2, 2])
    """

    def forward(
        self,
        graph: dgl.DGLGraph,
        feat: Features,
        weight: Tensor | None = None,
        edge_weight: Tensor | None = None,
    ) -> Tensor:
        """Apply the layer.

        Args:
            graph: a graph, a block or a bipartite graph
            feat: features of the nodes, or a pair whose second part is not used
            weight: the matrix of the linear map, for a layer made with ``weight=False``
            edge_weight: (E,), (E, 1) or (E, \\*), which multiply the features of the sources

        Shapes:
            - feat: (N, \\*, in_feats)
            - output: (N_dst, \\*, out_feats)

        Returns:
            The features of the destinations.

        Raises:
            DGLError: if a node has no in-edge, a matrix comes to a layer that has one, or a number of rows is wrong
            TypeError: if features are no floating-point tensor
            ValueError: if a width is wrong
        """
        adj, x, _ = self.ends(graph, feat)
        self.check_in_degrees(adj)
        if weight is not None and self.weight is not None:
            raise dgl.DGLError("GraphConv: expected weight= only at a layer made with weight=False, got both")
        weight, edge_weight = self.weight if weight is None else weight, self.edge_weights(adj, edge_weight)
        if weight is not None and x.shape[-1] != len(weight):
            raise ValueError(f"GraphConv: expected feat of shape (..., {len(weight)}), got {tuple(x.shape)}")

        def sum_neighbors(h: Tensor) -> Tensor:
            if edge_weight is None or edge_weight.dim() == 1:
                return propagate(adj, h, edge_weight, self._norm)
            src, dst = degree_factors(adj, self._norm, "unweighted", h.dtype)
            return reduce_messages(adj, h * per_node(src, h), edge_weight) * per_node(dst, h)

        if edge_weight is not None and edge_weight.dim() > 1 and weight is not None:  # its axes fix the order
            before = self._in_feats > self._out_feats
            y = sum_neighbors(linear(x, weight.T)) if before else linear(sum_neighbors(x), weight.T)
            y = y if self.bias is None else y + self.bias
        else:
            y = graph_convolution(x, weight, self.bias, sum_neighbors)
        return activated(self._activation, y)


class _Hops(Adapter):
    """Several hops over one node set."""

    def hop(self, graph: dgl.DGLGraph, feat: Tensor, edge_weight: Tensor | None) -> Callable[[Tensor], Tensor]:
        """The normalised sum over neighbours: by the in-degrees of both ends, or by weighted degrees."""
        check_one_node_set(type(self).__name__, graph)
        adj = self.ends(graph, feat)[0]
        if edge_weight is None:
            return partial(propagate, adj, degrees="in")
        return partial(aggregate, adj, coeff=_both(graph, edge_weight))


class SGConv(_Hops, dgl.nn.SGConv):
    """``dgl.nn.SGConv`` (Wu et al. 2019) on gnnlib's kernels.

    The arguments, values, gradients, errors and state dict are DGL's. With ``cached=True`` the features after k hops
    are computed once, whatever comes later, as in DGL; `gnnlib.SGConv` computes them again for other features.

    Example:
        >>> import torch
        >>> import dgl
        >>> from gnnlib.compat.dgl_nn import SGConv
        >>> g = dgl.add_self_loop(dgl.graph(([0, 1], [1, 0])))
        >>> SGConv(3, 2, k=2, cached=True)(g, torch.ones(2, 3)).shape
        torch.Size([2, 2])
    """

    _cached_h: Tensor | None

    def forward(self, graph: dgl.DGLGraph, feat: Tensor, edge_weight: Tensor | None = None) -> Tensor:
        """Apply the layer.

        Args:
            graph: a whole graph or a batch
            feat: features of the nodes, (N, in_feats)
            edge_weight: (E,), positive, normalised by `EdgeWeightNorm`

        Returns:
            The features of the nodes, (N, out_feats).

        Raises:
            DGLError: if a node has no in-edge, or a weight is not positive
            ValueError: if the graph has two node sets
        """
        hop = self.hop(graph, feat, edge_weight)
        self.check_in_degrees(adjacency(graph, feat.device))
        if self._cached_h is not None:
            return self.fc(self._cached_h)
        for _ in range(self._k):
            feat = hop(feat)
        if self.norm is not None:
            feat = self.norm(feat)
        if self._cached:
            self._cached_h = feat
        return self.fc(feat)


class APPNPConv(_Hops, dgl.nn.APPNPConv):
    """``dgl.nn.APPNPConv`` (Gasteiger et al. 2019) on gnnlib's kernels.

    The arguments, values, gradients and errors are DGL's.

    Example:
        >>> import torch
        >>> import dgl
        >>> from gnnlib.compat.dgl_nn import APPNPConv
        >>> g = dgl.graph(([0, 1], [1, 0]))
        >>> APPNPConv(k=1, alpha=0.25)(g, torch.tensor([[0.0], [4.0]])).flatten().tolist()
        [3.0, 1.0]
    """

    def forward(self, graph: dgl.DGLGraph, feat: Tensor, edge_weight: Tensor | None = None) -> Tensor:
        """Propagate k times.

        Args:
            graph: a whole graph or a batch
            feat: features of the nodes, (N, \\*, F)
            edge_weight: (E,), positive, normalised by `EdgeWeightNorm`

        Returns:
            The features of the nodes, (N, \\*, F).

        Raises:
            DGLError: if a weight is not positive, or the number of rows is wrong
            ValueError: if the graph has two node sets
        """
        check_one_node_set("APPNPConv", graph)
        adj, x, _ = self.ends(graph, feat)
        weight = None if edge_weight is None else _both(graph, edge_weight)

        def hop(h: Tensor) -> Tensor:
            if not is_training_dropout(self.edge_drop):
                return propagate(adj, h) if weight is None else aggregate(adj, h, weight)
            coeff = degree_norm(adj, like=h) if weight is None else weight
            return aggregate(adj, h, self.edge_drop(coeff))

        y = x
        for _ in range(self._k):
            y = torch.lerp(hop(y), x, self._alpha)
        return y


class TAGConv(_Hops, dgl.nn.TAGConv):
    """``dgl.nn.TAGConv`` (Du et al. 2017) on gnnlib's kernels.

    The arguments, values, gradients, errors and state dict are DGL's.

    Example:
        >>> import torch
        >>> import dgl
        >>> from gnnlib.compat.dgl_nn import TAGConv
        >>> TAGConv(3, 2, k=2)(dgl.graph(([0, 1], [1, 0])), torch.ones(2, 3)).shape
        torch.Size([2, 2])
    """

    def forward(self, graph: dgl.DGLGraph, feat: Tensor, edge_weight: Tensor | None = None) -> Tensor:
        """Apply the layer.

        Args:
            graph: a whole graph or a batch
            feat: features of the nodes, (N, \\*, in_feats)
            edge_weight: (E,), positive, normalised by `EdgeWeightNorm`

        Returns:
            The features of the nodes, (N, \\*, out_feats).

        Raises:
            DGLError: if a weight is not positive, or the number of rows is wrong
            ValueError: if the graph has two node sets
        """
        hop, terms = self.hop(graph, feat, edge_weight), [feat]
        for _ in range(self._k):
            terms.append(hop(terms[-1]))
        return activated(self._activation, self.lin(torch.cat(terms, -1)))


class GCN2Conv(_Hops, dgl.nn.GCN2Conv):
    """``dgl.nn.GCN2Conv`` (GCNII, Chen et al. 2020) on gnnlib's kernels.

    The arguments, values, gradients, errors and state dict are DGL's.

    Example:
        >>> import torch
        >>> import dgl
        >>> from gnnlib.compat.dgl_nn import GCN2Conv
        >>> g, x = dgl.graph(([0, 1], [1, 0])), torch.ones(2, 3)
        >>> GCN2Conv(3, layer=1)(g, x, x).shape
        torch.Size([2, 3])
    """

    def forward(self, graph: dgl.DGLGraph, feat: Tensor, feat_0: Tensor, edge_weight: Tensor | None = None) -> Tensor:
        """Apply the layer.

        Args:
            graph: a whole graph or a batch
            feat: features of the nodes, (N, in_feats)
            feat_0: those of the first layer, (N, in_feats)
            edge_weight: (E,), positive, normalised by `EdgeWeightNorm`

        Returns:
            The features of the nodes, (N, in_feats).

        Raises:
            DGLError: if a node has no in-edge, a weight is not positive, or the number of rows is wrong
            ValueError: if the graph has two node sets
        """
        hop = self.hop(graph, feat, edge_weight)
        self.check_in_degrees(adjacency(graph, feat.device))
        h, h_0 = hop(feat) * (1 - self.alpha), feat_0[: len(feat)] * self.alpha
        mixed = h + h_0
        product = mixed @ self.weight1 if self._project_initial_features else h @ self.weight1 + h_0 @ self.weight2
        y = (1 - self.beta) * mixed + self.beta * product
        return activated(self._activation, y + self.bias if self._bias else y)


class ChebConv(_Hops, dgl.nn.ChebConv):
    """``dgl.nn.ChebConv`` (Defferrard et al. 2016) on gnnlib's kernels.

    The arguments, values, gradients, warnings and state dict are DGL's; its activation is a ReLU by default.

    Example:
        >>> import torch
        >>> import dgl
        >>> from gnnlib.compat.dgl_nn import ChebConv
        >>> ChebConv(3, 2, k=3)(dgl.graph(([0, 1], [1, 0])), torch.ones(2, 3), [2.0]).shape
        torch.Size([2, 2])
    """

    def forward(self, graph: dgl.DGLGraph, feat: Tensor, lambda_max: "list[float] | Tensor | None" = None) -> Tensor:
        """Apply the layer.

        Args:
            graph: a whole graph or a batch
            feat: features of the nodes, (N, in_feats)
            lambda_max: the largest eigenvalue of the Laplacian of each graph, a list, (B,) or (B, 1); None: 2, with a
                warning

        Returns:
            The features of the nodes, (N, out_feats).

        Raises:
            DGLError: if the number of rows is wrong
            ValueError: if the graph has two node sets, or there is no lambda_max for each graph
        """
        hop = self.hop(graph, feat, None)
        if lambda_max is None:
            dgl.base.dgl_warning(
                "ChebConv: expected lambda_max, got none, and takes 2; dgl.laplacian_lambda_max(graph) computes it."
            )
            lambda_max = [2.0] * graph.batch_size
        values = torch.as_tensor(lambda_max, dtype=feat.dtype, device=feat.device).flatten()
        if len(values) != graph.batch_size:
            raise ValueError(
                f"ChebConv: expected {graph.batch_size} values of lambda_max, one for each graph, got {len(values)}"
            )
        sizes = graph.batch_num_nodes().to(feat.device)
        scale = 2 / per_node(values.repeat_interleave(sizes), feat)
        return activated(self.activation, self.linear(chebyshev_terms(feat, self._k, scale, hop)))
