"""Gated graph convolution: every feature of every message has a gate of its own, made from both ends and the edge."""

from typing import ClassVar

from torch import Tensor

from gnnlib._platform.dgl import dgl
from gnnlib.nn.conv.base import Conv, Features, _pair, add_reusing_memory
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

    Edge features travel where they are asked for: ``get_edge=True`` returns :math:`\hat e` beside y, for the next
    layer. In a `Stack` each layer sees the given e, so that its gates change with the nodes' features
    alone; layers that hand their edges on are the loop of the second example.

    Args:
        in_feats: width of x, or (source, destination) widths
        out_feats: width of y and of :math:`\hat e`
        edge_feats: width of the edge features; 0: none, and no C
        normalise: whether to divide by the sum of the gates; Bresson and Laurent do not

    Shapes: x (N, \*, in_feats) or a pair; edge (E, edge_feats), or None without; returns (N_dst, \*, out_feats), with
    ``get_edge=True`` also (E, \*, out_feats). Memory: (E, \*, out_feats).

    Raises: ValueError or TypeError, naming expected and received, for x or edge of a wrong shape or dtype, or where a
    graph with two node sets comes without a pair.

    Differs from the papers: the normalisation, activation and residual of nodes and edges are the caller's. A node
    without in-edges gets x_v A. State dicts of ``dgl.nn.GatedGCNConv`` load with ``strict=False``, as it holds norms.

    >>> import torch
    >>> g, x, e = dgl.graph(([0, 1, 2], [2, 2, 0])), torch.ones(3, 5), torch.ones(3, 2)
    >>> GatedGCNConv(5, 4, edge_feats=2)(g, x, e).shape
    torch.Size([3, 4])
    >>> for conv in (GatedGCNConv(5, 4, edge_feats=2), GatedGCNConv(4, 4, edge_feats=4)):
    ...     x, e = (t.relu() for t in conv(g, x, e, get_edge=True))
    >>> x.shape, e.shape
    (torch.Size([3, 4]), torch.Size([3, 4]))
    """

    takes_edge: ClassVar[str | None] = "feature"

    def __init__(self, in_feats: int | tuple[int, int], out_feats: int, edge_feats: int = 0, normalise: bool = True):
        super().__init__(in_feats, out_feats)
        if edge_feats < 0:
            raise ValueError(f"GatedGCNConv: expected edge_feats of at least 0, got {edge_feats}")
        src_feats, dst_feats = _pair(in_feats)
        self.edge_feats, self.normalise = edge_feats, normalise
        self.A, self.E = Linear(dst_feats, out_feats), Linear(dst_feats, out_feats)
        self.B, self.D = Linear(src_feats, out_feats), Linear(src_feats, out_feats)
        if edge_feats:
            self.C = Linear(edge_feats, out_feats)
        else:
            self.takes_edge = None  # type: ignore[misc]

    def forward(
        self, graph: dgl.DGLGraph, x: Features, edge: Tensor | None = None, get_edge: bool = False
    ) -> Tensor | tuple[Tensor, Tensor]:
        x_src, x_dst = self.both_ends(graph, x)
        self.check_edge(graph, edge, self.edge_feats or None)
        from_src, from_dst = incidence(graph, x_src)
        e = add_reusing_memory(aggregate(from_src, self.D(x_src)), aggregate(from_dst, self.E(x_dst)))
        if edge is not None:
            e = add_reusing_memory(e, self.C(edge).view(len(e), *[1] * (e.dim() - 2), self.out_feats))
        y = add_reusing_memory(self.A(x_dst), gated_sum(graph, self.B(x_src), e, EPSILON if self.normalise else None))
        return (y, e) if get_edge else y

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, edge_feats={self.edge_feats}"
