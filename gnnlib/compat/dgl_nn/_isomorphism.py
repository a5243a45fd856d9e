"""Graph isomorphism networks, without and with edge features."""

from torch import Tensor

from gnnlib._platform.dgl import dgl
from gnnlib.compat.dgl_nn._adapter import Adapter, Features, activated, reduce_messages
from gnnlib.nn.conv.gin import isomorphism_update
from gnnlib.ops.rectified import rectified_sum


def _identity(y: Tensor) -> Tensor:
    return y


class GINConv(Adapter, dgl.nn.GINConv):
    """``dgl.nn.GINConv`` (Xu et al. 2019) on gnnlib's kernels.

    The arguments, values, gradients, errors and state dict are DGL's.

    Example:
        >>> import torch
        >>> import dgl
        >>> from gnnlib.compat.dgl_nn import GINConv
        >>> GINConv(torch.nn.Linear(3, 2), "mean")(dgl.graph(([0, 1], [1, 0])), torch.ones(2, 3)).shape
        torch.Size([2, 2])
    """

    def forward(self, graph: dgl.DGLGraph, feat: Features, edge_weight: Tensor | None = None) -> Tensor:
        """Apply the layer.

        Args:
            graph: a graph, a block or a bipartite graph
            feat: features of the nodes, (N, \\*, F), or a pair
            edge_weight: (E,), (E, 1) or (E, \\*), which multiply the features of the sources

        Returns:
            The features of the destinations.

        Raises:
            DGLError: if a number of rows is wrong
            TypeError: if features are no floating-point tensor
        """
        adj, x_src, x_dst = self.ends(graph, feat)
        self.check_dst(adj, x_dst)
        weight, apply_func = self.edge_weights(adj, edge_weight), self.apply_func or _identity
        if weight is None or weight.dim() == 1:
            other_dst = x_dst if isinstance(feat, tuple) else None
            y = isomorphism_update(adj, x_src, other_dst, weight, self._aggregator_type, self.eps, apply_func)
        else:
            y = apply_func((1 + self.eps) * x_dst + reduce_messages(adj, x_src, weight, self._aggregator_type))
        return activated(self.activation, y)


class GINEConv(Adapter, dgl.nn.GINEConv):
    """``dgl.nn.GINEConv`` (Hu et al. 2020) on gnnlib's kernels.

    The arguments, values, gradients, errors and state dict are DGL's.

    Example:
        >>> import torch
        >>> import dgl
        >>> from gnnlib.compat.dgl_nn import GINEConv
        >>> g, x = dgl.graph(([0, 1], [1, 0])), torch.ones(2, 3)
        >>> GINEConv(torch.nn.Linear(3, 2))(g, x, torch.ones(2, 3)).shape
        torch.Size([2, 2])
    """

    def forward(self, graph: dgl.DGLGraph, node_feat: Features, edge_feat: Tensor) -> Tensor:
        """Apply the layer.

        Args:
            graph: a graph, a block or a bipartite graph
            node_feat: features of the nodes, (N, \\*, F), or a pair
            edge_feat: features of the edges, (E, \\*, F)

        Returns:
            The features of the destinations.

        Raises:
            DGLError: if a number of rows is wrong
            TypeError: if features are no floating-point tensor
        """
        adj, x_src, x_dst = self.ends(graph, node_feat)
        self.check_dst(adj, x_dst)
        self._check("edge_feat", edge_feat, adj.num_edges, None)
        messages = rectified_sum(adj, x_src, edge_feat.expand(adj.num_edges, *x_src.shape[1:]))
        y = (1 + self.eps) * x_dst + messages
        return y if self.apply_func is None else self.apply_func(y)
