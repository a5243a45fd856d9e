"""Edge-conditioned convolution: a weight matrix per edge, computed from the edge features."""

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from gnnlib.graph import GraphLike
from gnnlib.nn._arguments import integer, one_of, reset_parameters
from gnnlib.nn.conv.base import Conv, Features, add_bias, add_reusing_memory, empty_linear, width_pair, zeros
from gnnlib.ops import aggregate, convolve
from gnnlib.ops.degrees import mean_from_sum


class ECConv(Conv):
    r"""Edge-conditioned convolution (Simonovsky and Komodakis 2017, arXiv 1704.02901, equation 1; also the
    message of Gilmer et al. 2017, arXiv 1704.01212, section 5.1).

    .. math:: y_v = \frac{1}{d_v} \sum_{u \to v} x_u \Theta(e_{uv}) + c

    The network Theta ends in a linear layer, so its matrix is a sum over the K outputs h_k of the layer before,
    and no matrix per edge is ever made:

    .. math:: \Theta(e) = \sum_k h_k(e) W_k + W_0, \qquad
        y_v = \frac{1}{d_v} \sum_k \Big(\sum_{u \to v} h_k(e_{uv}) x_u\Big) W_k + \dots

    Memory: (E, K); see `gnnlib.ops.message_passing.convolve`.

    Differs from the paper: nothing. A node without in-edges gets c.
    State dicts of ``dgl.nn.NNConv`` load.

    Args:
        in_feats: width of the node features, or (source, destination) widths, of which the second is not used
        out_feats: width of the output
        edge_feats: width of the edge features
        edge_func: Theta: an ``nn.Linear``, or an ``nn.Sequential`` that ends in one, from edge_feats to
            in_feats * out_feats; default Linear(edge_feats, hidden), ReLU, Linear. It keeps its weights until
            `reset_parameters` is called
        hidden: K of the default network
        reduce: "mean" (the paper's) or "sum"
        bias: whether to add c

    Shapes:
        - x: (N, \*, in_feats), or a pair whose second part is not used
        - edge: features (E, edge_feats)
        - output: (N_dst, \*, out_feats)

    Raises:
        ValueError: if an argument is out of range, edge_func has another form, or a shape is wrong
        TypeError: if x or edge is no floating-point tensor

    Example:
        >>> import torch
        >>> from gnnlib import ECConv
        >>> import dgl
        >>> g = dgl.graph(([0, 1, 2], [2, 2, 0]))
        >>> ECConv(3, 2, edge_feats=5)(g, torch.ones(3, 3), torch.ones(3, 5)).shape
        torch.Size([3, 2])

        On superpixels, with relative positions and differences of colour:

        >>> from gnnlib.images import superpixel_graph
        >>> from gnnlib.ops import gather_dst, gather_src
        >>> g = superpixel_graph(torch.rand(28, 28, 3), num_segments=20)
        >>> colour = g.ndata["feat"]
        >>> near = g.edata["offset"] / g.edata["distance"].mean()
        >>> edge = torch.cat([near, gather_src(g, colour) - gather_dst(g, colour)], 1)
        >>> ECConv(3, 2, edge_feats=5)(g, colour, edge).shape[1]
        2
    """

    takes_edge: ClassVar[str | None] = "feature"
    two_widths: ClassVar[bool] = True

    def __init__(
        self,
        in_feats: int | tuple[int, int],
        out_feats: int,
        edge_feats: int,
        *,
        edge_func: nn.Module | None = None,
        hidden: int = 16,
        reduce: str = "mean",
        bias: bool = True,
    ):
        super().__init__(in_feats, out_feats)
        self.edge_feats = integer(self, "edge_feats", edge_feats)
        self.hidden = integer(self, "hidden", hidden)
        self.reduce = one_of(self, "reduce", reduce, ("sum", "mean"))
        self.default_network = edge_func is None
        self.edge_func = edge_func if edge_func is not None else self._network()
        last = self._split()[1]
        src_feats = width_pair(self.in_feats)[0]
        num_weights = src_feats * self.out_feats
        if not isinstance(last, nn.Linear) or last.out_features != num_weights:
            raise ValueError(
                f"ECConv: expected edge_func to end in a Linear with {src_feats} * {out_feats} = {num_weights} "
                f"outputs, got {last}"
            )
        self.bias = zeros(self.out_feats) if bias else None
        if self.default_network:
            self.reset_parameters()

    def _network(self) -> nn.Module:
        first = empty_linear(self.edge_feats, self.hidden)
        num_weights = width_pair(self.in_feats)[0] * self.out_feats
        return nn.Sequential(first, nn.ReLU(inplace=True), empty_linear(self.hidden, num_weights))

    def _split(self) -> tuple[nn.Module, Any]:
        """The network up to its last layer, and that layer."""
        if isinstance(self.edge_func, nn.Sequential) and len(self.edge_func):
            return self.edge_func[:-1], self.edge_func[-1]
        return nn.Identity(), self.edge_func

    def reset_parameters(self) -> None:
        """Draw the network anew; the matrices of the default one keep the variance of x."""
        before, last = self._split()
        reset_parameters(*((last, before) if self.default_network else (self.edge_func,)))
        with torch.no_grad():
            for parameter in last.parameters() if self.default_network else ():
                parameter.mul_(width_pair(self.in_feats)[0] ** -0.5)
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def forward(self, graph: GraphLike, x: Features, edge: Tensor | None = None) -> Tensor:
        """Apply the layer.

        Args:
            graph: a graph, a block or a bipartite graph
            x: node features
            edge: edge features

        Shapes:
            as of the class

        Returns:
            the features of the destinations
        """
        x, _ = self.src_features(graph, x)
        self.check_edge(graph, edge, self.edge_feats)
        before, last = self._split()
        y = sum_with_edge_matrices(graph, x, before(edge), last.weight, last.bias, self.out_feats)
        return add_bias(y if self.reduce == "sum" else mean_from_sum(graph, y), self.bias)


def sum_with_edge_matrices(
    graph: GraphLike, x: Tensor, hidden: Tensor, weight: Tensor, bias: Tensor | None, out_feats: int
) -> Tensor:
    """The sum over in-neighbours of x_u Theta(e_uv), where Theta ends in a linear layer.

    Args:
        graph: the graph
        x: features of the sources, (N_src, \\*, F)
        hidden: the input of the last layer of Theta, (E, K)
        weight: of that layer, (F * out_feats, K)
        bias: of that layer, (F * out_feats,), or None
        out_feats: width of the output

    Returns:
        The sums, (N_dst, \\*, out_feats).
    """
    in_feats = x.shape[-1]
    y = convolve(graph, x, hidden, weight.T.view(-1, in_feats, out_feats))
    if bias is not None:
        y = add_reusing_memory(y, aggregate(graph, x) @ bias.view(in_feats, out_feats))
    return y
