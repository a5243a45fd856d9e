"""Chebyshev convolution: a polynomial of the graph's Laplacian with a weight matrix per term."""

from collections.abc import Callable
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor

from gnnlib.graph import GraphLike
from gnnlib.nn._arguments import integer
from gnnlib.nn.conv.base import Conv, Features
from gnnlib.ops import propagate
from gnnlib.ops.linear import Linear


class ChebConv(Conv):
    r"""Chebyshev convolution (Defferrard et al. 2016, arXiv 1606.09375, equation 4).

    .. math:: Y = \sum_{i=0}^{k-1} T_i(\tilde L)\, X W_i + c, \qquad
        \tilde L = \frac{2}{\lambda_{\max}} \big(I - D^{-1/2} A D^{-1/2}\big) - I, \\
        T_0 = I, \quad T_1 = \tilde L, \quad T_i = 2 \tilde L T_{i-1} - T_{i-2}

    Differs from the paper: nothing on undirected graphs. On directed graphs in-edges are counted at both ends, or, of
    weights, those that leave the source and those that reach the destination are summed. A node without in-edges gets
    the sum of T_i(2 / lambda_max - 1) x_v W_i, and c.
    State dicts of ``dgl.nn.ChebConv`` load (constructed without its activation, the outputs are equal).

    Args:
        in_feats: width of the node features
        out_feats: width of the output
        k: number of terms; a node sees k - 1 hops
        bias: whether to add c

    Shapes:
        - graph: a whole graph, as a sampled block has no spectrum
        - x: (N, \*, in_feats)
        - edge: weights (E,) or (E, 1) whose sum about every node is at least 0, or None
        - lambda_max: a number, or one per graph of the batch (B,)
        - output: (N, \*, out_feats)

    Raises:
        ValueError: if an argument is out of range, the graph has two node sets, or a shape is wrong
        TypeError: if x or edge is no floating-point tensor

    Example:
        >>> import torch
        >>> from gnnlib import ChebConv
        >>> import dgl
        >>> g = dgl.graph(([0, 1], [1, 0]))
        >>> ChebConv(3, 2, k=3)(g, torch.ones(2, 3)).shape
        torch.Size([2, 2])
    """

    takes_edge: ClassVar[str | None] = "weight"

    def __init__(self, in_feats: int, out_feats: int, k: int, *, bias: bool = True):
        super().__init__(in_feats, out_feats)
        self.k = integer(self, "k", k)
        self.linear = Linear(self.k * self.in_feats, self.out_feats, bias=bias)

    @property
    def bias(self) -> Tensor | None:
        """c, or None."""
        return self.linear.bias

    def forward(
        self, graph: GraphLike, x: Features, edge: Tensor | None = None, *, lambda_max: float | Tensor = 2.0
    ) -> Tensor:
        """Apply the layer.

        Args:
            graph: a whole graph, or a batch of such
            x: node features
            edge: edge weights
            lambda_max: the largest eigenvalue of I - D^-1/2 A D^-1/2, for all graphs or each; 2 is never too small

        Shapes:
            as of the class

        Returns:
            the features of the nodes
        """
        if not graph.is_homogeneous:
            raise ValueError(
                f"ChebConv: expected a whole graph, got one of two node sets with {graph.num_src_nodes()} sources "
                f"and {graph.num_dst_nodes()} destinations"
            )
        x, _ = self.src_features(graph, x)
        edge = self.check_edge(graph, edge)
        scale = 2 / self._per_node(graph, lambda_max, x)
        degrees = "in" if edge is None else "weighted"
        hop = partial(propagate, graph, weight=edge, degrees=degrees)
        return self.linear(chebyshev_terms(x, self.k, scale, hop))

    def _per_node(self, graph: GraphLike, lambda_max: float | Tensor, x: Tensor) -> float | Tensor:
        """A number, or (N, 1, ...) to go with x."""
        if not isinstance(lambda_max, Tensor):
            return lambda_max
        if lambda_max.shape != (graph.batch_size,):
            raise ValueError(
                f"ChebConv: expected lambda_max of shape ({graph.batch_size},), one for each graph, "
                f"got {tuple(lambda_max.shape)}"
            )
        per_node = lambda_max.to(x).repeat_interleave(graph.batch_num_nodes().to(x.device))
        return per_node.view(-1, *[1] * (x.dim() - 1))


def chebyshev_terms(x: Tensor, k: int, scale: float | Tensor, hop: Callable[[Tensor], Tensor]) -> Tensor:
    """T_0 to T_{k-1} of the scaled Laplacian, times x, side by side.

    Args:
        x: node features, (N, \\*, F)
        k: number of terms
        scale: 2 / lambda_max, a number or (N, 1, ...)
        hop: multiplies by D^-1/2 A D^-1/2

    Returns:
        The terms, (N, \\*, k F).
    """
    terms = [x]
    for i in range(1, k):
        last = terms[-1]
        step = (scale - 1) * last - scale * hop(last)
        terms.append(step if i == 1 else 2 * step - terms[-2])
    return torch.cat(terms, -1)
