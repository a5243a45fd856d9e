"""Gated graph convolution: a gate per feature of each message, computed from both nodes and the edge."""

from typing import Any, ClassVar

from torch import Tensor

from gnnlib.graph import GraphLike
from gnnlib.nn._arguments import integer
from gnnlib.nn.conv.base import Conv, Features, add_reusing_memory, width_pair
from gnnlib.ops import aggregate
from gnnlib.ops.edges_as_nodes import incidence
from gnnlib.ops.gated import gated_sum
from gnnlib.ops.linear import Linear

EPSILON = 1e-6


class GatedGCNConv(Conv):
    r"""Gated graph convolution (Bresson and Laurent 2017, arXiv 1711.07553, equations 10 and 11; with edge features and
    normalised gates: Dwivedi et al. 2020, arXiv 2003.00982, GatedGCN).

    .. math:: y_v = x_v A + \frac{\sum_{u \to v} \sigma(\hat e_{uv}) \odot x_u B}
        {\sum_{u \to v} \sigma(\hat e_{uv}) + \varepsilon}, \qquad
        \hat e_{uv} = e_{uv} C + x_u D + x_v E

    each of A to E with a bias, and epsilon = 1e-6.

    ``get_edge=True`` returns :math:`\hat e` beside y, as the edge features of the next layer: the loop of the second
    example. In a `Stack` every layer gets the edge features of the input. Memory: (E, \*, out_feats).

    Differs from the papers: the normalisation, activation and residual of nodes and edges are the caller's. A node
    without in-edges gets x_v A. State dicts of ``dgl.nn.GatedGCNConv`` load with ``strict=False``, as it holds norms.

    Args:
        in_feats: width of the node features, or (source, destination) widths
        out_feats: width of the output and of :math:`\hat e`
        edge_feats: width of the edge features; 0: none, and no C
        normalise: whether to divide by the sum of the gates; Bresson and Laurent do not

    Shapes:
        - x: (N, \*, in_feats), or a pair (x_src, x_dst)
        - edge: features (E, edge_feats), or None if edge_feats is 0
        - output: (N_dst, \*, out_feats)

    Raises:
        ValueError: if an argument is out of range, a shape is wrong, or a graph with two node sets comes without a pair
        TypeError: if x or edge is no floating-point tensor

    Example:
        >>> import torch
        >>> from gnnlib import GatedGCNConv
        >>> import dgl
        >>> g, x, e = dgl.graph(([0, 1, 2], [2, 2, 0])), torch.ones(3, 5), torch.ones(3, 2)
        >>> GatedGCNConv(5, 4, edge_feats=2)(g, x, e).shape
        torch.Size([3, 4])
        >>> for conv in (GatedGCNConv(5, 4, edge_feats=2), GatedGCNConv(4, 4, edge_feats=4)):
        ...     x, e = (t.relu() for t in conv(g, x, e, get_edge=True))
        >>> x.shape, e.shape
        (torch.Size([3, 4]), torch.Size([3, 4]))
    """

    takes_edge: ClassVar[str | None] = "feature"
    two_widths: ClassVar[bool] = True

    def __init__(self, in_feats: int | tuple[int, int], out_feats: int, edge_feats: int = 0, *, normalise: bool = True):
        super().__init__(in_feats, out_feats)
        src_feats, dst_feats = width_pair(self.in_feats)
        self.edge_feats, self.normalise = integer(self, "edge_feats", edge_feats, minimum=0), normalise
        self.A, self.E = Linear(dst_feats, self.out_feats), Linear(dst_feats, self.out_feats)
        self.B, self.D = Linear(src_feats, self.out_feats), Linear(src_feats, self.out_feats)
        if self.edge_feats:
            self.C = Linear(self.edge_feats, self.out_feats)
        else:
            self.takes_edge = None  # type: ignore[misc]

    def forward(
        self, graph: GraphLike, x: Features, edge: Tensor | None = None, *, get_edge: bool = False
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Apply the layer.

        Args:
            graph: a graph, a block or a bipartite graph
            x: node features
            edge: edge features
            get_edge: whether to return :math:`\\hat e` too

        Shapes:
            as of the class

        Returns:
            the features of the destinations; with ``get_edge`` also those of the edges, (E, \\*, out_feats)
        """
        x_src, x_dst = self.src_dst_features(graph, x)
        self.check_edge(graph, edge, self.edge_feats or None)
        y, e = gated_convolution(self, graph, x_src, x_dst, edge, EPSILON if self.normalise else None)
        return (y, e) if get_edge else y


def gated_convolution(
    maps: Any, graph: GraphLike, x_src: Tensor, x_dst: Tensor, edge: Tensor | None, epsilon: float | None
) -> tuple[Tensor, Tensor]:
    """The outputs of nodes and edges, for a layer with the linear maps A to E.

    Args:
        maps: the layer
        graph: the graph
        x_src, x_dst: features of the sources and of the destinations
        edge: edge features, or None
        epsilon: added to the sum of the gates, by which the messages are divided; None: no division

    Returns:
        y of the destinations and the logits of the gates.
    """
    from_src, from_dst = incidence(graph, x_src)
    e = add_reusing_memory(aggregate(from_src, maps.D(x_src)), aggregate(from_dst, maps.E(x_dst)))
    if edge is not None:
        e = add_reusing_memory(e, maps.C(edge).view(len(e), *[1] * (e.dim() - 2), e.shape[-1]))
    return add_reusing_memory(maps.A(x_dst), gated_sum(graph, maps.B(x_src), e, epsilon)), e
