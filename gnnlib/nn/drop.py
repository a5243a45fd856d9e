"""Dropout of features, edges, nodes and messages during training."""

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import dropout

from gnnlib._utils.calls import names_checked
from gnnlib.graph import GraphLike, MessageDropout, edge_endpoints, keep_edges, with_message_dropout
from gnnlib.nn._arguments import Arguments, probability, reset_parameters
from gnnlib.nn.conv.base import Conv, Features

__all__ = ["DropEdge", "DropMessage", "DropNode", "Dropout"]

LEVELS = 2**16


@names_checked()
class Dropout(nn.Dropout):
    r"""Dropout (Srivastava et al. 2014, "Dropout: a simple way to prevent neural networks from overfitting", section
    4), with one random number for four entries.

    .. math:: y_i = \frac{z_i}{1 - p} x_i, \qquad z_i \sim \mathrm{Bernoulli}(1 - p)

    PyTorch draws one random number for each entry, which takes longer on a CPU than the layer that follows. Here each
    number of 64 bits serves four entries. It replaces ``nn.Dropout``: the same arguments and distribution, other draws.

    Differs from the paper: kept entries are multiplied by 1 / (1 - p) in training; the paper multiplies by 1 - p in
    evaluation. On other devices, and in place, it is ``nn.Dropout``.

    Args:
        p: probability that an entry is dropped, to the nearest of 65536 steps
        inplace: whether to write into x

    Shapes:
        - x: (\*)
        - output: the same

    Example:
        >>> import torch
        >>> from gnnlib import Dropout
        >>> _ = torch.manual_seed(0)
        >>> y = Dropout(0.25)(torch.ones(300, 100))
        >>> y.unique().tolist(), round(y.mean().item(), 1)
        ([0.0, 1.3333333730697632], 1.0)
    """

    def forward(self, x: Tensor) -> Tensor:
        """Drop entries in training.

        Args:
            x: features of any shape

        Returns:
            Features of the same shape; x itself in evaluation.
        """
        level = round(self.p * LEVELS)
        if not self.training or self.inplace or x.device.type != "cpu" or not 0 < level < LEVELS:
            return super().forward(x)
        draws = torch.empty(-(-x.numel() // 4), dtype=torch.int64).random_(-(2**63), None)
        keep = draws.view(torch.int16)[: x.numel()].view(x.shape) >= level - LEVELS // 2
        return x * keep.to(x.dtype).mul_(LEVELS / (LEVELS - level))


class _Drop(Arguments, nn.Module):
    """A probability, and no effect in evaluation."""

    renamed: ClassVar = {"drop_prob": "p", "drop_rate": "p", "dropout": "p", "prob": "p"}
    always_shown: ClassVar = ("p",)

    def __init__(self, p: float):
        super().__init__()
        self.p = probability(self, "p", p)

    @property
    def drops(self) -> bool:
        return self.training and self.p > 0


class DropEdge(_Drop):
    """DropEdge (Rong et al. 2020, arXiv 1907.10903, equation 2): keeps a random subset of the edges in each training
    step.

    Degrees, softmax and maxima are those of the graph with fewer edges. In evaluation graph and edges are unchanged.

    Differs from the paper: it adds self-loops after dropping; here they are edges of the graph, which stay.

    Args:
        p: probability that an edge is dropped
        keep_self_loops: whether self-loops always stay

    Shapes:
        - edge: (E, \\*) or None
        - output: a graph of E' edges, and edge (E', \\*) or None

    Raises:
        ValueError: if p is no probability

    Example:
        >>> import torch
        >>> from gnnlib import DropEdge
        >>> import dgl
        >>> g = dgl.graph((torch.zeros(1000).long(), torch.ones(1000).long()))
        >>> _ = torch.manual_seed(0)
        >>> smaller, weight = DropEdge(0.75)(g, torch.ones(1000))
        >>> 200 < smaller.num_edges() == len(weight) < 300
        True
    """

    def __init__(self, p: float = 0.5, *, keep_self_loops: bool = True):
        super().__init__(p)
        self.keep_self_loops = keep_self_loops

    def forward(self, graph: GraphLike, edge: Tensor | None = None) -> tuple[GraphLike, Tensor | None]:
        """Drop edges in training.

        Args:
            graph: a graph, a batch, or a message-flow graph
            edge: edge weights or edge features, (E, \\*), or None

        Returns:
            The graph with fewer edges, and the rows of ``edge`` that stay.
        """
        if not self.drops:
            return graph, edge
        keep = torch.rand(graph.num_edges(), device=graph.device) >= self.p
        if self.keep_self_loops and graph.is_homogeneous:
            src, dst = edge_endpoints(graph)
            keep |= src == dst
        return keep_edges(graph, keep), edge if edge is None else edge[keep.to(edge.device)]


class DropNode(_Drop):
    r"""DropNode (Feng et al. 2020, GRAND, arXiv 2005.11079, section 3.1): drops all features of a node together.

    .. math:: y_v = \frac{z_v}{1 - p} x_v, \qquad z_v \sim \mathrm{Bernoulli}(1 - p)

    It is the ``dropout`` of a `GNNLayer`. Nodes stay in the graph (Do et al. 2021 remove them).

    Args:
        p: probability that a node is dropped, drawn for each signal

    Shapes:
        - x: (N, \*, F)
        - output: the same

    Raises:
        ValueError: if p is no probability

    Example:
        >>> import torch
        >>> from gnnlib import DropNode
        >>> DropNode(0.5)(torch.ones(100, 2)).unique(dim=0).tolist()
        [[0.0, 0.0], [2.0, 2.0]]
    """

    def __init__(self, p: float = 0.5):
        super().__init__(p)

    def forward(self, x: Tensor) -> Tensor:
        """Drop nodes in training.

        Args:
            x: node features, (N, \\*, F)

        Returns:
            Features of the same shape; x itself in evaluation.
        """
        return x * dropout(x.new_ones(*x.shape[:-1], 1), self.p) if self.drops else x


class DropMessage(_Drop):
    r"""DropMessage (Fang et al. 2023, arXiv 2204.10037): drops single entries of the messages, drawn for each edge.

    .. math:: m_{uv} = \frac{z_{uv}}{1 - p} \circ x_u, \qquad z_{uvj} \sim \mathrm{Bernoulli}(1 - p)

    It wraps the layer whose messages it drops: ``GNNLayer(DropMessage(conv, 0.3))``. A message is what the layer
    sends along an edge: the features of its source, or their product with the layer's weight where it multiplies
    first. Where messages are summed, with or without weights or attention, neither messages nor masks are stored:
    whether an entry is kept is computed where it is added, and again in the backward pass. Scores, degrees and a node's
    own features are not changed. A layer that sums more than once (k hops, several powers) drops the same entries in
    each sum.

    Memory in training: that of the layer. With attention also numbers for each edge and head; where messages pass
    through more than a sum (maxima, products with a matrix for each edge), (E, \*, in_feats). In evaluation it is the
    layer itself.

    Args:
        conv: a layer of this library
        p: probability that an entry of a message is dropped

    Shapes:
        - x, edge, output: those of conv

    Raises:
        TypeError: if conv is a layer of another library
        ValueError: if p is no probability

    Example:
        >>> import torch
        >>> from gnnlib import DropMessage, GCNConv
        >>> import dgl
        >>> g = dgl.graph(([0, 1, 2], [2, 2, 0]))
        >>> DropMessage(GCNConv(3, 2), 0.5)(g, torch.ones(3, 3)).shape
        torch.Size([3, 2])
    """

    def __init__(self, conv: Conv, p: float = 0.5):
        super().__init__(p)
        if not isinstance(conv, Conv):
            raise TypeError(f"DropMessage: expected a layer of gnnlib, got {type(conv).__name__}")
        self.conv, self.takes_edge = conv, conv.takes_edge

    def reset_parameters(self) -> None:
        """Draw the parameters of the layer anew."""
        reset_parameters(self.conv)

    def forward(self, graph: GraphLike, x: Features, edge: Tensor | None = None) -> Tensor:
        """Apply the layer, and drop entries of its messages in training.

        Args:
            graph: as conv takes it
            x: as conv takes it
            edge: as conv takes it

        Returns:
            As conv.
        """
        if not self.drops:
            return self.conv(graph, x, edge)
        device = (x[0] if isinstance(x, tuple) else x).device
        return self.conv(with_message_dropout(graph, MessageDropout.sample(self.p), device), x, edge)
