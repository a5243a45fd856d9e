"""Principal neighbourhood aggregation, with towers."""

import torch
from torch import Tensor

from gnnlib._platform.dgl import dgl
from gnnlib.compat.dgl_nn._adapter import Adapter
from gnnlib.graph import Adjacency
from gnnlib.graph._check import check_one_node_set
from gnnlib.nn.conv.pna import principal_aggregation


class PNAConv(Adapter, dgl.nn.PNAConv):
    """``dgl.nn.PNAConv`` (Corso et al. 2020) on gnnlib's kernels.

    The arguments, gradients, dropout masks and state dict are DGL's. Deviations and moments are taken from the
    differences to the mean, where DGL's variance is a difference of two means: the values differ by its rounding.

    Example:
        >>> import torch
        >>> import dgl
        >>> from gnnlib.compat.dgl_nn import PNAConv
        >>> conv = PNAConv(4, 2, ["mean", "max", "sum"], ["identity", "amplification"], delta=2.5, num_towers=2)
        >>> conv(dgl.graph(([0, 1], [1, 0])), torch.rand(2, 4)).shape
        torch.Size([2, 2])
    """

    def forward(self, graph: dgl.DGLGraph, node_feat: Tensor, edge_feat: Tensor | None = None) -> Tensor:
        """Apply the layer.

        Args:
            graph: a whole graph or a batch
            node_feat: features of the nodes, (N, in_size)
            edge_feat: features of the edges, (E, edge_feat_size)

        Returns:
            The features of the nodes, (N, out_size).

        Raises:
            DGLError: if a number of rows is wrong
            TypeError: if features are no floating-point tensor
            ValueError: if a width is wrong, edge features are missing, or the graph has two node sets
        """
        check_one_node_set("PNAConv", graph)
        adj, x, _ = self.ends(graph, node_feat, self.in_size)
        if self.edge_feat_size and edge_feat is None:
            raise ValueError(f"PNAConv: expected edge_feat of shape (E, {self.edge_feat_size}), got none")
        edge = edge_feat if self.edge_feat_size else None
        if edge is not None:
            self._check("edge_feat", edge, adj.num_edges, self.edge_feat_size)
        sizes = graph.batch_num_nodes().to(x.device)
        scale = sizes.to(x).rsqrt().repeat_interleave(sizes).unsqueeze(1)
        towers = zip(self.towers, x.split(self.tower_in_size, 1), strict=True)
        y = self.mixing_layer(torch.cat([self._tower(tower, adj, part, edge, scale) for tower, part in towers], 1))
        return y + x if self.residual else y

    def _tower(self, tower: torch.nn.Module, adj: Adjacency, x: Tensor, edge: Tensor | None, scale: Tensor) -> Tensor:
        y = principal_aggregation(tower, adj, x, x, edge) * scale
        return tower.dropout(tower.batchnorm(y))  # type: ignore[operator]
