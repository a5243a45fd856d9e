"""Edge-conditioned convolution: a weight matrix for every edge, made from its features."""

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from gnnlib._platform.dgl import dgl
from gnnlib.nn.conv.base import Conv, Features, add_bias, add_reusing_memory, zeros
from gnnlib.ops import aggregate, convolve
from gnnlib.ops.degrees import mean_from_sum
from gnnlib.ops.linear import Linear


def _network(edge_feats: int, hidden: int, in_feats: int, out_feats: int) -> nn.Module:
    last = Linear(hidden, in_feats * out_feats)
    with torch.no_grad():  # the matrices, not the network, should keep the variance of x
        last.weight.mul_(in_feats**-0.5)
        last.bias.mul_(in_feats**-0.5)
    return nn.Sequential(Linear(edge_feats, hidden), nn.ReLU(inplace=True), last)


class ECConv(Conv):
    r"""Edge-conditioned convolution (Simonovsky and Komodakis 2017, arXiv 1704.02901, equation 1; also the
    message of Gilmer et al. 2017, arXiv 1704.01212, section 5.1).

    .. math:: y_v = \frac{1}{d_v} \sum_{u \to v} x_u \Theta(e_{uv}) + c

    The network Theta ends in a linear layer, so its matrix is a sum over the K outputs h_k of the layer before,
    and no matrix per edge is ever made:

    .. math:: \Theta(e) = \sum_k h_k(e) W_k + W_0, \qquad
        y_v = \frac{1}{d_v} \sum_k \Big(\sum_{u \to v} h_k(e_{uv}) x_u\Big) W_k + \dots

    Args:
        in_feats, out_feats: widths
        edge_feats: width of the edge features
        edge_func: Theta: an ``nn.Linear``, or an ``nn.Sequential`` that ends in one, from edge_feats to
            in_feats * out_feats; default Linear(edge_feats, hidden), ReLU, Linear
        hidden: K of the default network
        reduce: "mean" (the paper's) or "sum"
        bias: whether to add c

    Shapes: x (N, \*, in_feats), or a pair whose second part is not used; edge (E, edge_feats); returns
    (N_dst, \*, out_feats). Memory: (E, K); see `gnnlib.ops.message_passing.convolve`.

    Raises: ValueError or TypeError, naming expected and received, for x or edge of a wrong shape or dtype, or an
    edge_func of another form.

    Differs from the paper: nothing. A node without in-edges gets c.
    State dicts of ``dgl.nn.NNConv`` load.

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

    def __init__(
        self,
        in_feats: int,
        out_feats: int,
        edge_feats: int,
        edge_func: nn.Module | None = None,
        hidden: int = 16,
        reduce: str = "mean",
        bias: bool = True,
    ):
        super().__init__(in_feats, out_feats)
        if reduce not in ("sum", "mean"):
            raise ValueError(f"ECConv: expected reduce to be 'sum' or 'mean', got {reduce!r}")
        self.edge_feats, self.reduce = edge_feats, reduce
        self.edge_func = edge_func if edge_func is not None else _network(edge_feats, hidden, in_feats, out_feats)
        last = self._split()[1]
        if not isinstance(last, nn.Linear) or last.out_features != in_feats * out_feats:
            raise ValueError(
                f"ECConv: expected edge_func to end in a Linear with {in_feats} * {out_feats} = "
                f"{in_feats * out_feats} outputs, got {last}"
            )
        self.bias = zeros(out_feats) if bias else None

    def _split(self) -> tuple[nn.Module, Any]:
        """The network up to its last layer, and that layer."""
        if isinstance(self.edge_func, nn.Sequential) and len(self.edge_func):
            return self.edge_func[:-1], self.edge_func[-1]
        return nn.Identity(), self.edge_func

    def forward(self, graph: dgl.DGLGraph, x: Features, edge: Tensor | None = None) -> Tensor:
        x, _ = self.ends(graph, x)
        self.check_edge(graph, edge, self.edge_feats)
        before, last = self._split()
        weight = last.weight.T.view(-1, self.in_feats, self.out_feats)  # (K, in, out)
        y = convolve(graph, x, before(edge), weight)
        if last.bias is not None:
            y = add_reusing_memory(y, aggregate(graph, x) @ last.bias.view(self.in_feats, self.out_feats))
        return add_bias(y if self.reduce == "sum" else mean_from_sum(graph, y), self.bias)
