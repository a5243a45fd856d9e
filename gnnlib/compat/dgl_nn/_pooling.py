"""Readouts of each graph in a batch."""

from typing import ClassVar

from torch import Tensor

from gnnlib._platform.dgl import dgl
from gnnlib.compat.dgl_nn._adapter import Adapter
from gnnlib.graph import Adjacency, node_to_graph
from gnnlib.nn.readout import attention_sum
from gnnlib.ops import aggregate


class _Pooling(Adapter):
    def to_graphs(self, graph: dgl.DGLGraph, feat: Tensor) -> Adjacency:
        """From every node to its graph."""
        adj = node_to_graph(graph, feat.device)
        self._check("features of the nodes", feat, adj.num_src, None)
        return adj

    def pool(self, graph: dgl.DGLGraph, feat: Tensor, reduce: str) -> Tensor:
        """The reduction over the nodes of each graph, (N, \\*, F) -> (B, \\*, F)."""
        return aggregate(self.to_graphs(graph, feat), feat, reduce=reduce)


class _Reduction(_Pooling):
    reduce: ClassVar[str]

    def forward(self, graph: dgl.DGLGraph, feat: Tensor) -> Tensor:
        """Pool the nodes.

        Args:
            graph: a graph or a batch of B graphs
            feat: features of the nodes, (N, \\*, F)

        Returns:
            One vector for each graph, (B, \\*, F).
        """
        return self.pool(graph, feat, self.reduce)


class SumPooling(_Reduction, dgl.nn.SumPooling):
    """``dgl.nn.SumPooling``: the sum over the nodes of each graph.

    Example:
        >>> import torch
        >>> import dgl
        >>> from gnnlib.compat.dgl_nn import SumPooling
        >>> SumPooling()(dgl.graph(([0, 1], [1, 0])), torch.ones(2, 3)).tolist()
        [[2.0, 2.0, 2.0]]
    """

    reduce: ClassVar[str] = "sum"


class AvgPooling(_Reduction, dgl.nn.AvgPooling):
    """``dgl.nn.AvgPooling``: the mean over the nodes of each graph.

    Example:
        >>> import torch
        >>> import dgl
        >>> from gnnlib.compat.dgl_nn import AvgPooling
        >>> AvgPooling()(dgl.graph(([0, 1], [1, 0])), torch.ones(2, 3)).tolist()
        [[1.0, 1.0, 1.0]]
    """

    reduce: ClassVar[str] = "mean"


class MaxPooling(_Reduction, dgl.nn.MaxPooling):
    """``dgl.nn.MaxPooling``: the maximum over the nodes of each graph; 0 for a graph without nodes.

    Example:
        >>> import torch
        >>> import dgl
        >>> from gnnlib.compat.dgl_nn import MaxPooling
        >>> MaxPooling()(dgl.graph(([0, 1], [1, 0])), torch.tensor([[1.0], [3.0]])).tolist()
        [[3.0]]
    """

    reduce: ClassVar[str] = "max"


class WeightAndSum(_Pooling, dgl.nn.WeightAndSum):
    """``dgl.nn.WeightAndSum``: the sum over the nodes of each graph, each with a learned weight from 0 to 1.

    Example:
        >>> import torch
        >>> import dgl
        >>> from gnnlib.compat.dgl_nn import WeightAndSum
        >>> WeightAndSum(3)(dgl.graph(([0, 1], [1, 0])), torch.ones(2, 3)).shape
        torch.Size([1, 3])
    """

    def forward(self, g: dgl.DGLGraph, feats: Tensor) -> Tensor:
        """Pool the nodes.

        Args:
            g: a graph or a batch of B graphs
            feats: features of the nodes, (N, in_feats)

        Returns:
            One vector for each graph, (B, in_feats).
        """
        return self.pool(g, feats * self.atom_weighting(feats), "sum")


class GlobalAttentionPooling(_Pooling, dgl.nn.GlobalAttentionPooling):
    """``dgl.nn.GlobalAttentionPooling`` (Li et al. 2016): an average over the nodes of each graph, by a softmax.

    Example:
        >>> import torch
        >>> import dgl
        >>> from gnnlib.compat.dgl_nn import GlobalAttentionPooling
        >>> GlobalAttentionPooling(torch.nn.Linear(3, 1))(dgl.graph(([0, 1], [1, 0])), torch.ones(2, 3)).shape
        torch.Size([1, 3])
    """

    def forward(self, graph: dgl.DGLGraph, feat: Tensor, get_attention: bool = False) -> Tensor | tuple[Tensor, Tensor]:
        """Pool the nodes.

        Args:
            graph: a graph or a batch of B graphs
            feat: features of the nodes, (N, F)
            get_attention: whether to return the weights of the nodes too

        Returns:
            One vector for each graph, (B, F), and the weights, (N, 1).

        Raises:
            ValueError: if ``gate_nn`` returns other than one number for a node
        """
        gate = self.gate_nn(feat)
        if gate.shape[-1] != 1:
            raise ValueError(
                f"GlobalAttentionPooling: expected gate_nn to return (N, 1), got shape {tuple(gate.shape)}"
            )
        feat = self.feat_nn(feat) if self.feat_nn else feat
        y, gate = attention_sum(self.to_graphs(graph, feat), gate, feat)
        return (y, gate) if get_attention else y
