"""Dropout of features, edges, nodes and messages during training."""

import torch
from torch import Tensor, nn
from torch.nn.functional import dropout

from gnnlib._platform.dgl import dgl
from gnnlib.graph.adjacency import Drop, edge_endpoints, with_message_dropout
from gnnlib.graph.transforms import keep_edges
from gnnlib.nn.conv.base import Conv, Features

__all__ = ["DropEdge", "DropMessage", "DropNode", "Dropout"]

LEVELS = 2**16


class Dropout(nn.Dropout):
    r"""Dropout (Srivastava et al. 2014, "Dropout: a simple way to prevent neural networks from overfitting", section
    4), drawn for four entries at a time.

    .. math:: y_i = \frac{z_i}{1 - p} x_i, \qquad z_i \sim \mathrm{Bernoulli}(1 - p)

    PyTorch draws one random number for each entry, which takes longer on a CPU than the layer that follows; here each
    number of 64 bits serves four. For ``nn.Dropout``, wherever that stands: the same argument, the same distribution,
    other draws.

    Args:
        p: probability that an entry is dropped, to the nearest of 65536 steps

    Shapes: x (\*); returns the same.

    Differs from the paper: kept entries grow by 1 / (1 - p) in training, in place of shrinking by 1 - p in evaluation.
    On other devices, and in place, it is ``nn.Dropout``.

    >>> _ = torch.manual_seed(0)
    >>> y = Dropout(0.25)(torch.ones(300, 100))
    >>> y.unique().tolist(), round(y.mean().item(), 1)
    ([0.0, 1.3333333730697632], 1.0)
    """

    def forward(self, x: Tensor) -> Tensor:
        level = round(self.p * LEVELS)
        if not self.training or self.inplace or x.device.type != "cpu" or not 0 < level < LEVELS:
            return super().forward(x)
        draws = torch.empty(-(-x.numel() // 4), dtype=torch.int64).random_(-(2**63), None)
        keep = draws.view(torch.int16)[: x.numel()].view(x.shape) >= level - LEVELS // 2
        return x * keep.to(x.dtype).mul_(LEVELS / (LEVELS - level))


class _Dropping(nn.Module):
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


class DropEdge(_Dropping):
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
            src, dst = edge_endpoints(graph)
            keep |= src == dst
        return keep_edges(graph, keep), edge if edge is None else edge[keep.to(edge.device)]


class DropNode(_Dropping):
    r"""DropNode (Feng et al. 2020, GRAND, arXiv 2005.11079, section 3.1): all features of a node at once, where
    ``nn.Dropout`` drops single ones.

    .. math:: y_v = \frac{z_v}{1 - p} x_v, \qquad z_v \sim \mathrm{Bernoulli}(1 - p)

    ``drop(x) -> x``, the ``dropout`` of a `GNNLayer`. No node leaves the graph (as in Do et al. 2021).

    Args:
        p: probability that a node is dropped; each signal on a graph draws for itself

    >>> DropNode(0.5)(torch.ones(100, 2)).unique(dim=0).tolist()
    [[0.0, 0.0], [2.0, 2.0]]
    """

    def forward(self, x: Tensor) -> Tensor:
        return x * dropout(x.new_ones(*x.shape[:-1], 1), self.p) if self.drops else x


class DropMessage(_Dropping):
    r"""DropMessage (Fang et al. 2023, arXiv 2204.10037): single features of single messages, so that a node sends
    something else along each of its edges.

    .. math:: m_{uv} = \frac{z_{uv}}{1 - p} \circ x_u, \qquad z_{uvj} \sim \mathrm{Bernoulli}(1 - p)

    Stands around the layer whose messages it drops: ``GNNLayer(DropMessage(conv, 0.3))``. A message is what the layer
    sends along an edge: the features of its source, or their product with the layer's weight where it multiplies
    first. Where sums are taken, with or without weights or attention, neither messages nor masks are ever written:
    whether an entry is kept is computed where it is added, and again in the backward pass. Scores, degrees and a node's
    own features know nothing of it. Of a layer that sums more than once (k hops, several powers), each sum drops
    the same.

    Args:
        conv: a layer of this library
        p: probability that an entry of a message is dropped

    Shapes: those of conv. Memory while training: that of the layer; with attention also numbers for each edge and head,
    and where messages pass through more than a sum (maxima, products with a matrix for each edge), (E, \*, in_feats).
    In evaluation it is the layer itself.

    Raises: TypeError for a layer of another library; ValueError for p outside 0 to 1.

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
        device = (x[0] if isinstance(x, tuple) else x).device
        return self.conv(with_message_dropout(graph, Drop.draw(self.p), device), x, edge)
