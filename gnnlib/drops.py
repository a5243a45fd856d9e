"""Dropping edges, nodes or messages while training. Single features are dropped by ``nn.Dropout``."""

import torch
from torch import Tensor, nn
from torch.nn.functional import dropout

from gnnlib._dgl import dgl
from gnnlib.convs.base import Conv, Features
from gnnlib.neighbors import edge_ends
from gnnlib.ops import NORMS, degree_norm, gather_src
from gnnlib.transforms import keep_edges

__all__ = ["DropEdge", "DropMessage", "DropNode"]


class Drop(nn.Module):
    """What drops have in common: a probability, and that they do nothing in evaluation."""

    def __init__(self, p: float = 0.5):
        super().__init__()
        if not 0 <= p <= 1:
            raise ValueError(f"{type(self).__name__}: expected a probability, got {p}")
        self.p = p

    @property
    def drops(self) -> bool:
        return self.training and self.p > 0

    def extra_repr(self) -> str:
        return f"p={self.p}"


class DropEdge(Drop):
    """DropEdge (Rong et al. 2020, arXiv 1907.10903, equation 2): a random subset of the edges in each training step.

    ``drop(graph, edge) -> (graph, edge)`` on fewer edges, so that degrees, softmax and maxima are those of the
    smaller graph. In evaluation both come back as they are.

    Args:
        p: probability that an edge is dropped
        keep_self_loops: the paper adds self-loops after dropping; here they are edges of the graph, so they stay

    >>> g = dgl.graph((torch.zeros(1000).long(), torch.ones(1000).long()))
    >>> _ = torch.manual_seed(0)
    >>> smaller, weight = DropEdge(0.75)(g, torch.ones(1000))
    >>> 200 < smaller.num_edges() == len(weight) < 300
    True
    """

    def __init__(self, p: float = 0.5, keep_self_loops: bool = True):
        super().__init__(p)
        self.keep_self_loops = keep_self_loops

    def forward(self, graph: dgl.DGLGraph, edge: Tensor | None = None) -> tuple[dgl.DGLGraph, Tensor | None]:
        if not self.drops:
            return graph, edge
        keep = torch.rand(graph.num_edges(), device=graph.device) >= self.p
        if self.keep_self_loops and graph.is_homogeneous:
            src, dst = edge_ends(graph)
            keep |= src == dst
        return keep_edges(graph, keep), edge if edge is None else edge[keep.to(edge.device)]


class DropNode(Drop):
    r"""DropNode (Feng et al. 2020, GRAND, arXiv 2005.11079, section 3.1): all features of a node at once, where
    ``nn.Dropout`` drops single ones.

    .. math:: y_v = \frac{z_v}{1 - p} x_v, \qquad z_v \sim \mathrm{Bernoulli}(1 - p)

    ``drop(x) -> x``, the ``dropout`` of a `Block`. No node leaves the graph (as in Do et al. 2021).

    Args:
        p: probability that a node is dropped; each signal on a graph draws for itself

    >>> DropNode(0.5)(torch.ones(100, 2)).unique(dim=0).tolist()
    [[0.0, 0.0], [2.0, 2.0]]
    """

    def forward(self, x: Tensor) -> Tensor:
        return x * dropout(x.new_ones(*x.shape[:-1], 1), self.p) if self.drops else x


class DropMessage(Drop):
    r"""DropMessage (Fang et al. 2023, arXiv 2204.10037): single features of single messages, so that a node sends
    something else along each of its edges.

    .. math:: m_{uv} = \frac{z_{uv}}{1 - p} \circ x_u, \qquad z_{uvj} \sim \mathrm{Bernoulli}(1 - p)

    Stands around the layer whose messages it drops: ``Block(DropMessage(conv, 0.3))``. While training, the layer
    runs on a graph in which each message is a source with one edge; all it knows of the sources it knows from the
    message: attention scores what is left of it. A node's own features, where a layer uses them, are not dropped.
    Degrees are those of the graph.

    Args:
        conv: a one-hop layer of this library
        p: probability that an entry of a message is dropped

    Shapes: those of conv. Memory while training: (E, \*, in_feats), and where the layer multiplies by its weight first,
    E rows go through it in place of N. In evaluation it is the layer itself.

    Raises: TypeError for a layer of another library, of which it is not known what it does with degrees; ValueError
    for p outside 0 to 1.

    >>> from gnnlib import GCNConv
    >>> g = dgl.graph(([0, 1, 2], [2, 2, 0]))
    >>> DropMessage(GCNConv(3, 2), 0.5)(g, torch.ones(3, 3)).shape
    torch.Size([3, 2])
    """

    def __init__(self, conv: Conv, p: float = 0.5):
        super().__init__(p)
        if not isinstance(conv, Conv):
            raise TypeError(f"DropMessage: expected a layer of gnnlib, got {type(conv).__name__}")
        self.conv, self.takes_edge = conv, conv.takes_edge

    def forward(self, graph: dgl.DGLGraph, x: Features, edge: Tensor | None = None) -> Tensor:
        if not self.drops:
            return self.conv(graph, x, edge)
        x_src, x_dst = self.conv.ends(graph, x)
        messages = dropout(gather_src(graph, x_src), self.p)
        messages = messages * self._source_scale(graph, messages, edge)
        return self.conv(_one_source_each(graph), messages if x_dst is None else (messages, x_dst), edge)

    def _source_scale(self, graph: dgl.DGLGraph, messages: Tensor, edge: Tensor | None) -> Tensor | float:
        """The factor of each edge that a layer normalised by degree takes from the out-edges of its source, which
        it cannot see where each source has one."""
        power = NORMS[getattr(self.conv, "norm", "none")][0]
        if power == 0:
            return 1.0
        degrees = getattr(self.conv, "degrees", None) or ("unweighted" if edge is None else "weighted")
        share = degree_norm(graph, edge if degrees == "weighted" else None, "left", degrees, like=messages)
        return share.view(-1, *[1] * (messages.dim() - 1)) ** -power


def _one_source_each(graph: dgl.DGLGraph) -> dgl.DGLGraph:
    """The same destinations and edges, each edge from a source of its own: E sources, E edges."""
    src, dst = edge_ends(graph)
    sizes = {"message": len(src), "node": graph.num_dst_nodes()}
    each = torch.arange(len(src), dtype=src.dtype, device=src.device)
    spread = dgl.heterograph({("message", "to", "node"): (each, dst)}, sizes, idtype=graph.idtype)
    if "pos" in graph.srcdata and "pos" in graph.dstdata:
        spread.srcdata["pos"], spread.dstdata["pos"] = graph.srcdata["pos"][src.long()], graph.dstdata["pos"]
    for name, value in graph.edata.items():
        spread.edata[name] = value
    return spread
