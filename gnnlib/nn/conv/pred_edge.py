"""Predicted-edge convolution: edge weights predicted by a small network from the positions of both nodes."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from gnnlib.graph import GraphLike, takes_graph
from gnnlib.nn._arguments import integer, positive
from gnnlib.nn.conv.base import Conv, Features, add_bias, empty, empty_linear
from gnnlib.ops import aggregate, convolve, edge_score


class PredEdgeConv(Conv):
    r"""Convolution over predicted edges (Knyazev et al. 2019, arXiv 1907.09000), K relations.

    .. math:: y_v = \sum_k \sum_{u \to v} b_k(p_u, p_v)\, x_u W_k + c, \qquad
        b(p_u, p_v) = \phi\big(V\, \mathrm{ReLU}(U_1 p_u + U_2 p_v + t) + s\big)

    The first layer of the network is split into a part per node, so nothing of shape (E, hidden) is stored: all
    pairs of the pixels of an image are practical. Any graph will do; edges it lacks are not predicted. Memory: (E, K).

    Differs from the paper: relations are summed through their own W_k, which is the paper's concatenation
    followed by a linear layer. A node without in-edges gets c.

    Args:
        in_feats: width of the node features
        out_feats: width of the output
        pos_feats: number of coordinates
        hidden: width of the network that predicts edges
        relations: number of relations K
        edge_activation: phi, a module; default the identity
        normalise: ``f(graph, b) -> b`` over (E, K): `gnnlib.edge_softmax`, or `gnnlib.ops.degrees.divide_by_in_degree`
            (divide by the number of in-edges); default none
        pos_scale: positions are divided by this (pixels per unit), so that the network sees numbers near 1
        weight: False leaves the W_k out and puts the K sums side by side: out_feats must be K in_feats
        bias: whether to add c

    Shapes:
        - x: (N, \*, in_feats), or a pair whose second part is not used
        - ``graph.srcdata["pos"]``: (N_src, pos_feats), in pixels, row then column; ``graph.dstdata["pos"]`` likewise
        - edge: None
        - output: (N_dst, \*, out_feats)

    Raises:
        ValueError: if an argument is out of range, a shape is wrong, positions are missing or not finite, or ``edge``
            is not None
        TypeError: if x is no floating-point tensor

    Example:
        >>> import torch
        >>> from gnnlib import PredEdgeConv
        >>> import dgl
        >>> g = dgl.graph(([0, 1, 2], [2, 2, 0]))
        >>> g.ndata["pos"] = torch.rand(3, 2)
        >>> PredEdgeConv(3, 2, pos_feats=2, relations=4)(g, torch.ones(3, 3)).shape
        torch.Size([3, 2])
    """

    def __init__(
        self,
        in_feats: int,
        out_feats: int,
        pos_feats: int,
        *,
        hidden: int = 64,
        relations: int = 1,
        edge_activation: nn.Module | None = None,
        normalise: Callable[[GraphLike, Tensor], Tensor] | None = None,
        pos_scale: float = 1.0,
        weight: bool = True,
        bias: bool = True,
    ):
        super().__init__(in_feats, out_feats)
        self.pos_feats = integer(self, "pos_feats", pos_feats)
        self.hidden = integer(self, "hidden", hidden)
        self.relations = integer(self, "relations", relations)
        self.pos_scale = positive(self, "pos_scale", pos_scale)
        if not weight and self.out_feats != self.relations * self.in_feats:
            raise ValueError(
                f"PredEdgeConv: without weights expected out_feats {relations * in_feats}, that of {relations} sums "
                f"side by side, got {out_feats}"
            )
        self.first = empty_linear(2 * self.pos_feats, self.hidden)  # of the network on [p_u, p_v]
        self.second = empty_linear(self.hidden, self.relations)
        self.edge_activation = edge_activation or nn.Identity()
        self.normalise = normalise
        self.weight = empty(self.relations, self.in_feats, self.out_feats) if weight else None
        self.bias = empty(self.out_feats) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the network as ``nn.Linear`` does, and each W_k as Glorot and Bengio (2010) do; c is 0."""
        super().reset_parameters()
        with torch.no_grad():
            for weight in self.weight if self.weight is not None else ():
                nn.init.xavier_uniform_(weight)
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    @takes_graph("like")
    def edges(self, graph: GraphLike, like: Tensor) -> Tensor:
        """The predicted edge weights: (E, K)."""
        p_src, p_dst = (pos.to(like) / self.pos_scale for pos in self.positions(graph, self.pos_feats))
        u_src, u_dst = self.first.weight.split(self.pos_feats, dim=1)
        a, b = p_src @ u_src.T, p_dst @ u_dst.T + self.first.bias
        score = edge_score(graph, a.unsqueeze(1), b.unsqueeze(1), self.second.weight) + self.second.bias
        score = self.edge_activation(score)
        return score if self.normalise is None else self.normalise(graph, score)

    def forward(self, graph: GraphLike, x: Features, edge: Tensor | None = None) -> Tensor:
        """Apply the layer.

        Args:
            graph: a graph, a block or a bipartite graph
            x: node features
            edge: must be None

        Shapes:
            as of the class

        Returns:
            the features of the destinations
        """
        x, _ = self.src_features(graph, x)
        self.check_edge(graph, edge)
        b = self.edges(graph, x)
        if self.weight is not None:
            return add_bias(convolve(graph, x, b, self.weight), self.bias)
        per_signal = b.view(len(b), *[1] * (x.dim() - 2), b.shape[1])
        return add_bias(aggregate(graph, x.unsqueeze(-2), per_signal).flatten(-2), self.bias)


def start_local(conv: PredEdgeConv, fall: Tensor, lean: Tensor) -> None:
    r"""Initialize the network that predicts edges such that near nodes have larger weights:

    .. math:: b_k(p_u, p_v) = \phi\big(-f_k \|p_u - p_v\| + l_k \cdot (p_u - p_v)\big)

    with phi a softmax or an exponential, the law exp(-d / sigma^2) of fixed adjacencies, leaning to one side. By
    default the network is nearly linear: its filters are as wide as the image, and take long to become narrow.

    The hidden units are :math:`w_j \cdot (p_u - p_v)` with unit vectors w_j evenly around the circle; a sum of their
    ReLUs is the distance, to within 4 / hidden^2 of it.

    Args:
        conv: a layer with two coordinates
        fall: f_k, per unit of the positions
        lean: l_k, likewise; shorter than f_k, or the weight is unbounded on one side

    Shapes:
        - fall: (K,)
        - lean: (K, 2)

    Raises:
        ValueError: if a shape is wrong, or the layer has another number of coordinates

    Example:
        >>> import torch
        >>> from gnnlib import PredEdgeConv
        >>> from gnnlib.nn.conv.pred_edge import start_local
        >>> import dgl
        >>> g = dgl.graph(([0], [1]))
        >>> g.ndata["pos"] = torch.tensor([[3.0, 4.0], [0.0, 0.0]])
        >>> conv = PredEdgeConv(1, 1, pos_feats=2, relations=2)
        >>> start_local(conv, torch.tensor([1.0, 2.0]), torch.tensor([[0.0, 0.0], [0.0, 1.5]]))
        >>> [round(score, 1) for score in conv.edges(g, torch.ones(1)).flatten().tolist()]
        [-5.0, -4.0]
    """
    relations, hidden = conv.second.weight.shape
    if conv.pos_feats != 2 or fall.shape != (relations,) or lean.shape != (relations, 2):
        raise ValueError(
            f"start_local: expected 2 coordinates, fall ({relations},) and lean ({relations}, 2), "
            f"got {conv.pos_feats}, {tuple(fall.shape)} and {tuple(lean.shape)}"
        )
    angle = 2 * torch.pi * (torch.arange(hidden) + 0.5) / hidden
    direction = torch.stack([angle.cos(), angle.sin()], 1)
    with torch.no_grad():
        conv.first.weight.copy_(torch.cat([direction, -direction], 1))
        conv.second.weight.copy_(conv.pos_scale * (4 * lean @ direction.T - torch.pi * fall.unsqueeze(1)) / hidden)
        conv.first.bias.zero_()
        conv.second.bias.zero_()
