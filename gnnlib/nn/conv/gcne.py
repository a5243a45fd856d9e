"""Graph convolution with edge features: a linear map, then the weighted sum of rectified messages."""

from typing import ClassVar

from torch import Tensor, nn

from gnnlib.graph import GraphLike, adjacency
from gnnlib.nn._arguments import integer
from gnnlib.nn.conv.base import Conv, Features, empty, empty_linear
from gnnlib.ops.rectified import rectified_sum


class GCNEConv(Conv):
    r"""Graph convolution with edge features, the GCN of the Open Graph Benchmark's baselines on molecules (Hu et al.
    2020, arXiv 2005.00687, section 5; after Kipf and Welling 2017, arXiv 1609.02907, equation 2).

    .. math:: y_v = \frac{1}{d_v} \max(0,\ h_v + r)
        + \sum_{u \to v} \frac{1}{\sqrt{d_u d_v}} \max(0,\ h_u + e_{uv} U + b), \qquad h = x W + c

    with r a vector that every node shares, and d_v one more than the number of in-edges: the node itself is a
    neighbour whose edge is r. Memory: (E, \*, out_feats).

    Differs from Kipf and Welling: the ReLU is within the messages, as edges would be without effect on nodes otherwise.
    A node without in-edges gets max(0, h_v + r).

    Args:
        in_feats: width of the node features
        out_feats: width of the output
        edge_feats: width of the edge features

    Shapes:
        - graph: a whole graph: a block samples the neighbours that the degrees would count
        - x: (N, \*, in_feats)
        - edge: features (E, edge_feats)
        - output: (N, \*, out_feats)

    Raises:
        ValueError: if an argument is out of range, the graph has two node sets, or a shape is wrong
        TypeError: if x or edge is no floating-point tensor

    Example:
        >>> import torch
        >>> from gnnlib import GCNEConv
        >>> import dgl
        >>> g = dgl.graph(([0, 1, 2], [2, 2, 0]))
        >>> GCNEConv(3, 2, edge_feats=5)(g, torch.ones(3, 3), torch.ones(3, 5)).shape
        torch.Size([3, 2])
    """

    takes_edge: ClassVar[str | None] = "feature"

    def __init__(self, in_feats: int, out_feats: int, edge_feats: int):
        super().__init__(in_feats, out_feats)
        self.edge_feats = integer(self, "edge_feats", edge_feats)
        self.linear = empty_linear(self.in_feats, self.out_feats)
        self.edge_func = empty_linear(self.edge_feats, self.out_feats)
        self.root = empty(self.out_feats)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the linear maps as ``nn.Linear`` does, and r from a normal distribution."""
        super().reset_parameters()
        nn.init.normal_(self.root)

    def forward(self, graph: GraphLike, x: Features, edge: Tensor | None = None) -> Tensor:
        """Apply the layer.

        Args:
            graph: a whole graph
            x: node features
            edge: edge features

        Shapes:
            as of the class

        Returns:
            the features of the nodes
        """
        if not graph.is_homogeneous:
            raise ValueError(
                f"GCNEConv: expected a whole graph, got one of two node sets with {graph.num_src_nodes()} sources and "
                f"{graph.num_dst_nodes()} destinations"
            )
        x, _ = self.src_features(graph, x)
        self.check_edge(graph, edge, self.edge_feats)
        adj = adjacency(graph, x.device)
        degree = 1 + adj.in_degrees.to(x)
        coeff = (degree[adj.src] * degree[adj.dst]).rsqrt()
        h = self.linear(x)
        self_message = (h + self.root).relu() / degree.view(-1, *[1] * (x.dim() - 1))
        return self_message + rectified_sum(graph, h, self.edge_func(edge), coeff)
