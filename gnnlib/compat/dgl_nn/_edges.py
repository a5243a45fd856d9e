"""Layers with features of edges: NNConv, GMMConv and GatedGCNConv."""

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from gnnlib._platform.dgl import dgl
from gnnlib.compat.dgl_nn._adapter import Adapter, Features, copy_to_edges, reduce_edges
from gnnlib.graph import Adjacency
from gnnlib.graph._check import check_one_node_set
from gnnlib.nn.conv.ecc import sum_with_edge_matrices
from gnnlib.nn.conv.gated_gcn import EPSILON, gated_convolution
from gnnlib.nn.conv.monet import gaussians
from gnnlib.ops import aggregate, convolve
from gnnlib.ops.degrees import mean_from_sum
from gnnlib.ops.linear import Linear


def _last_linear(network: Any) -> nn.Linear | None:
    """The last layer of a network, if its input is then all that an edge needs: a plain linear map without hooks."""
    last: Any = network[-1] if isinstance(network, nn.Sequential) and len(network) else network
    if type(last).forward not in (nn.Linear.forward, Linear.forward):
        return None
    hooks = [hook for module in {network, last} for hook in (module._forward_hooks, module._forward_pre_hooks)]
    return None if any(hooks) else last


class NNConv(Adapter, dgl.nn.NNConv):
    """``dgl.nn.NNConv`` (Gilmer et al. 2017) on gnnlib's kernels.

    The arguments, values, gradients, errors and state dict are DGL's. Where ``edge_func`` ends in a linear layer, no
    matrix is made for an edge, as in `gnnlib.ECConv`.

    Example:
        >>> import torch
        >>> import dgl
        >>> from gnnlib.compat.dgl_nn import NNConv
        >>> conv = NNConv(3, 2, torch.nn.Linear(5, 3 * 2))
        >>> conv(dgl.graph(([0, 1], [1, 0])), torch.ones(2, 3), torch.ones(2, 5)).shape
        torch.Size([2, 2])
    """

    two_widths: ClassVar[bool] = True

    def forward(self, graph: dgl.DGLGraph, feat: Features, efeat: Tensor) -> Tensor:
        """Apply the layer.

        Args:
            graph: a graph, a block or a bipartite graph
            feat: features of the nodes, (N, in_feats), or a pair
            efeat: the input of ``edge_func``, a row for each edge

        Returns:
            The features of the destinations, (N_dst, out_feats).

        Raises:
            DGLError: if a number of rows is wrong
            TypeError: if features are no floating-point tensor
            ValueError: if a width is wrong
        """
        adj, x_src, x_dst = self.ends(graph, feat, self._in_src_feats)
        last = None if self._aggre_type == "max" else _last_linear(self.edge_func)
        if last is not None:
            hidden = efeat if last is self.edge_func else self.edge_func[:-1](efeat)
            y = sum_with_edge_matrices(adj, x_src, hidden, last.weight, last.bias, self._out_feats)
            y = mean_from_sum(adj, y) if self._aggre_type == "mean" else y
        else:
            y = self._with_matrices(adj, x_src, self.edge_func(efeat))
        if self.res_fc is not None:
            self.check_dst(adj, x_dst, self._in_dst_feats)
            y = y + self.res_fc(x_dst)
        return y if self.bias is None else y + self.bias

    def _with_matrices(self, adj: Adjacency, x: Tensor, matrices: Tensor) -> Tensor:
        """The reduction, with a matrix for each edge; DGL's maximum is over each product of its sum."""
        matrices = matrices.view(-1, self._in_src_feats, self._out_feats)
        if self._aggre_type == "max":
            return reduce_edges(adj, copy_to_edges(adj, x).unsqueeze(-1) * matrices, "max").sum(1)
        return reduce_edges(adj, torch.einsum("ei,eio->eo", copy_to_edges(adj, x), matrices), self._aggre_type)


class GMMConv(Adapter, dgl.nn.GMMConv):
    """``dgl.nn.GMMConv`` (MoNet, Monti et al. 2017) on gnnlib's kernels.

    The arguments, values, gradients, errors and state dict are DGL's.

    Example:
        >>> import torch
        >>> import dgl
        >>> from gnnlib.compat.dgl_nn import GMMConv
        >>> conv = GMMConv(3, 2, dim=2, n_kernels=4, residual=True)
        >>> conv(dgl.graph(([0, 1], [1, 0])), torch.ones(2, 3), torch.ones(2, 2)).shape
        torch.Size([2, 2])
    """

    two_widths: ClassVar[bool] = True

    def forward(self, graph: dgl.DGLGraph, feat: Features, pseudo: Tensor) -> Tensor:
        """Apply the layer.

        Args:
            graph: a graph, a block or a bipartite graph
            feat: features of the nodes, (N, in_feats), or a pair
            pseudo: pseudo-coordinates of the edges, (E, dim)

        Returns:
            The features of the destinations, (N_dst, out_feats).

        Raises:
            DGLError: if a node has no in-edge, or a number of rows is wrong
            TypeError: if features are no floating-point tensor
            ValueError: if a width is wrong
        """
        adj, x_src, x_dst = self.ends(graph, feat, self._in_src_feats)
        self.check_in_degrees(adj)
        self._check("pseudo", pseudo, adj.num_edges, self._dim)
        weight = gaussians(pseudo, self.mu, self.inv_sigma)
        if self._reducer is dgl.function.max:  # over the messages of each Gaussian
            h = self.fc(x_src).view(-1, self._n_kernels, self._out_feats)
            y = aggregate(adj, h, weight, "max").sum(1)
        else:
            y = convolve(adj, x_src, weight, self.fc.weight.view(self._n_kernels, self._out_feats, -1).mT)
            y = mean_from_sum(adj, y) if self._reducer is dgl.function.mean else y
        if self.res_fc is not None:
            self.check_dst(adj, x_dst, self._in_dst_feats)
            y = y + self.res_fc(x_dst)
        return y if self.bias is None else y + self.bias


if hasattr(dgl.nn, "GatedGCNConv"):  # from DGL 2.0 on

    class GatedGCNConv(Adapter, dgl.nn.GatedGCNConv):
        """``dgl.nn.GatedGCNConv`` (Bresson and Laurent 2017) on gnnlib's kernels.

        The arguments, values, gradients, dropout masks, errors and state dict are DGL's.

        Example:
            >>> import torch
            >>> import dgl
            >>> from gnnlib.compat.dgl_nn import GatedGCNConv
            >>> x, e = GatedGCNConv(3, 5, 2)(dgl.graph(([0, 1], [1, 0])), torch.ones(2, 3), torch.ones(2, 5))
            >>> x.shape, e.shape
            (torch.Size([2, 2]), torch.Size([2, 2]))
        """

        def forward(self, graph: dgl.DGLGraph, feat: Tensor, edge_feat: Tensor) -> tuple[Tensor, Tensor]:
            """Apply the layer.

            Args:
                graph: a whole graph or a batch
                feat: features of the nodes, (N, input_feats)
                edge_feat: features of the edges, (E, edge_feats)

            Returns:
                The features of the nodes, (N, output_feats), and of the edges, (E, output_feats).

            Raises:
                DGLError: if a number of rows is wrong
                TypeError: if features are no floating-point tensor
                ValueError: if a width is wrong, or the graph has two node sets
            """
            check_one_node_set("GatedGCNConv", graph)
            adj, x, _ = self.ends(graph, feat, self.A.in_features)
            self._check("edge_feat", edge_feat, adj.num_edges, self.C.in_features)
            y, e = gated_convolution(self, adj, x, x, edge_feat, EPSILON)
            if self.batch_norm:
                y, e = self.bn_node(y), self.bn_edge(e)
            if self.activation:
                y, e = self.activation(y), self.activation(e)
            if self.residual:
                y, e = x + y, edge_feat + e
            return self.dropout(y), self.dropout(e)
