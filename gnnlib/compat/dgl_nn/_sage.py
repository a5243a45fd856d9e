"""GraphSAGE, with the reductions "mean", "gcn", "pool" and "lstm"."""

from typing import ClassVar

import torch
from torch import Tensor

from gnnlib._platform.dgl import dgl
from gnnlib.compat.dgl_nn._adapter import Adapter, Features, activated, reduce_messages
from gnnlib.graph import Adjacency
from gnnlib.nn.conv.sage import mean_with_self


class SAGEConv(Adapter, dgl.nn.SAGEConv):
    """``dgl.nn.SAGEConv`` (Hamilton et al. 2017) on gnnlib's kernels.

    The arguments, values, gradients, dropout masks, errors and state dict are DGL's. "lstm" reads the in-edges in
    the order of their ids. With "gcn", a pair on a graph of one node set gives the sum of its first part; DGL sums the
    second.

    Example:
        >>> import torch
        >>> import dgl
        >>> from gnnlib.compat.dgl_nn import SAGEConv
        >>> SAGEConv(3, 2, "pool")(dgl.graph(([0, 1], [1, 0])), torch.ones(2, 3)).shape
        torch.Size([2, 2])
    """

    two_widths: ClassVar[bool] = True

    def forward(self, graph: dgl.DGLGraph, feat: Features, edge_weight: Tensor | None = None) -> Tensor:
        """Apply the layer.

        Args:
            graph: a graph, a block or a bipartite graph
            feat: features of the nodes, (N, \\*, in_feats), or a pair
            edge_weight: (E,), (E, 1) or (E, \\*), which multiply the features of the sources

        Returns:
            The features of the destinations, (N_dst, \\*, out_feats).

        Raises:
            DGLError: if a number of rows is wrong, or, for "gcn", both parts of a pair differ in their widths
            TypeError: if features are no floating-point tensor
            ValueError: if a width is wrong
        """
        gcn, pair = self._aggre_type == "gcn", isinstance(feat, tuple)
        adj, x_src, x_dst = self.ends(graph, feat, self._in_src_feats)
        if gcn and x_dst.shape[1:] != x_src.shape[1:]:
            raise dgl.DGLError(
                f"SAGEConv: expected the same width at both ends for 'gcn', got {tuple(x_src.shape)} and "
                f"{tuple(x_dst.shape)}"
            )
        self.check_dst(adj, x_dst, None if gcn else self._in_dst_feats)
        x_src = self.feat_drop(x_src)
        x_dst = self.feat_drop(x_dst) if pair else x_src[: adj.num_dst]
        weight = self.edge_weights(adj, edge_weight)
        if gcn and (weight is None or weight.dim() == 1):
            y = mean_with_self(adj, x_src, x_dst if pair else None, weight, self.fc_neigh)
        elif gcn:
            y = self._gcn_of_wide_weights(adj, x_src, x_dst, weight)
        else:
            y = self.fc_self(x_dst) + self._neighbors(adj, x_src, weight)
        if gcn and self.bias is not None:
            y = y + self.bias
        y = activated(self.activation, y)
        return y if self.norm is None else self.norm(y)

    def _neighbors(self, adj: Adjacency, x: Tensor, weight: Tensor | None) -> Tensor:
        """The mapped reduction over the in-neighbours."""
        if self._aggre_type == "pool":
            return self.fc_neigh(reduce_messages(adj, self.fc_pool(x).relu(), weight, "max"))
        if self._aggre_type == "lstm":
            return self.fc_neigh(self._last_states(adj, x, weight))
        if self._in_src_feats > self._out_feats:
            return reduce_messages(adj, self.fc_neigh(x), weight, "mean")
        return self.fc_neigh(reduce_messages(adj, x, weight, "mean"))

    def _gcn_of_wide_weights(self, adj: Adjacency, x_src: Tensor, x_dst: Tensor, weight: Tensor | None) -> Tensor:
        first = self._in_src_feats > self._out_feats
        if first:
            x_src, x_dst = self.fc_neigh(x_src), self.fc_neigh(x_dst)
        y = (reduce_messages(adj, x_src, weight) + x_dst) / (adj.in_degrees.to(x_src).unsqueeze(-1) + 1)
        return y if first else self.fc_neigh(y)

    def _last_states(self, adj: Adjacency, x: Tensor, weight: Tensor | None) -> Tensor:
        """The last state of the LSTM over the messages of each destination; 0 where there is none."""
        indptr, indices, eid = adj.csc
        messages = x[indices.long()]
        if weight is not None:
            messages = messages * weight[eid.long()].view(len(eid), *weight.shape[1:] or (1,))
        degrees = indptr.diff().long()
        states = x.new_zeros(adj.num_dst, self._in_src_feats)
        reached = degrees.nonzero().squeeze(1)
        if len(reached) == 0:
            return states
        rows = messages.split(degrees[reached].tolist())
        packed = torch.nn.utils.rnn.pack_sequence(rows, enforce_sorted=False)
        return states.index_copy(0, reached, self.lstm(packed)[1][0].squeeze(0))
