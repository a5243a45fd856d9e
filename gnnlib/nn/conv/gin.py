"""Graph isomorphism network: the sum over neighbours, then an MLP."""

from collections.abc import Callable
from typing import ClassVar

import torch
from torch import Tensor, nn

from gnnlib.graph import GraphLike
from gnnlib.graph._adjacency import is_traced
from gnnlib.nn._arguments import number, one_of
from gnnlib.nn.conv.base import Conv, Features, add_bias
from gnnlib.ops import aggregate
from gnnlib.ops.linear import Linear, linear


class GINConv(Conv):
    r"""Graph isomorphism layer (Xu et al. 2019, arXiv 1810.00826, equation 4.1).

    .. math:: y_v = \mathrm{MLP}\big((1 + \epsilon) x_v + \sum_{u \to v} w_{uv} x_u\big)

    Differs from the paper: nothing. Where the MLP begins with a linear map to fewer features, that is taken before the
    sum, which gives the same. A node without in-edges gets MLP((1 + eps) x_v).
    State dicts of ``dgl.nn.GINConv`` load.

    Args:
        in_feats: width of the node features
        out_feats: width of the output
        apply_func: any module from in_feats to out_feats; default Linear, ReLU, Linear. It keeps its weights until
            `reset_parameters` is called
        eps: initial value of epsilon
        learn_eps: whether epsilon is trained
        reduce: "sum" (the paper's), "mean" or "max"

    Shapes:
        - x: (N, \*, in_feats), or a pair (x_src, x_dst)
        - edge: weights (E,) or (E, 1), or None
        - output: (N_dst, \*, out_feats)

    Raises:
        ValueError: if an argument is out of range, a shape is wrong, or a graph with two node sets comes without a pair
        TypeError: if x or edge is no floating-point tensor

    Example:
        >>> import torch
        >>> from gnnlib import GINConv
        >>> import dgl
        >>> g = dgl.graph(([0, 1], [1, 0]))
        >>> GINConv(3, 2, learn_eps=True)(g, torch.ones(2, 3)).shape
        torch.Size([2, 2])
    """

    takes_edge: ClassVar[str | None] = "weight"
    eps: Tensor

    def __init__(
        self,
        in_feats: int,
        out_feats: int,
        *,
        apply_func: nn.Module | None = None,
        eps: float = 0.0,
        learn_eps: bool = False,
        reduce: str = "sum",
    ):
        super().__init__(in_feats, out_feats)
        self.apply_func = apply_func or nn.Sequential(
            Linear(self.in_feats, self.out_feats), nn.ReLU(inplace=True), Linear(self.out_feats, self.out_feats)
        )
        self.reduce = one_of(self, "reduce", reduce, ("sum", "mean", "max"))
        self.initial_eps, self.learn_eps = float(number(self, "eps", eps)), learn_eps
        initial = torch.tensor([self.initial_eps])
        if learn_eps:
            self.eps = nn.Parameter(initial)
        else:
            self.register_buffer("eps", initial)

    def reset_parameters(self) -> None:
        """Draw the MLP anew; epsilon gets its initial value."""
        super().reset_parameters()
        nn.init.constant_(self.eps, self.initial_eps)

    def forward(self, graph: GraphLike, x: Features, edge: Tensor | None = None) -> Tensor:
        """Apply the layer.

        Args:
            graph: a graph, a block or a bipartite graph
            x: node features
            edge: edge weights

        Shapes:
            as of the class

        Returns:
            the features of the destinations
        """
        x_src, x_dst = self.src_dst_features(graph, x)
        edge = self.check_edge(graph, edge)
        other_dst = x_dst if isinstance(x, tuple) else None
        return isomorphism_update(graph, x_src, other_dst, edge, self.reduce, self.eps, self.apply_func)


def isomorphism_update(
    graph: GraphLike,
    x_src: Tensor,
    x_dst: Tensor | None,
    edge: Tensor | None,
    reduce: str,
    eps: Tensor,
    mlp: Callable[[Tensor], Tensor],
) -> Tensor:
    """MLP((1 + eps) x_v + reduction of w_uv x_u), with the first layer of the MLP before the sum where it is narrower.

    Args:
        graph: the graph
        x_src: features of the sources
        x_dst: features of the destinations; None: these are the first sources
        edge: edge weights, or None
        reduce: "sum", "mean" or "max"
        eps: epsilon, (1,)
        mlp: the MLP

    Returns:
        The features of the destinations.
    """
    first, rest = (None, mlp) if reduce == "max" else _narrowing(mlp)
    if first is not None:
        x_src, x_dst = linear(x_src, first.weight), None if x_dst is None else linear(x_dst, first.weight)
    if x_dst is not None or eps.requires_grad or is_traced():
        y = aggregate(graph, x_src, edge, reduce)
        y = (1 + eps) * (x_src[: len(y)] if x_dst is None else x_dst) + y
    else:
        y = aggregate(graph, x_src, edge, reduce, self_weight=1 + eps.item())
    return rest(y if first is None else add_bias(y, first.bias))


def _narrowing(mlp: Callable[[Tensor], Tensor]) -> tuple[nn.Linear | None, Callable[[Tensor], Tensor]]:
    """The first layer of an MLP, if it makes features narrower, and the other layers: sums are then taken of its
    products. The first layer must be a plain linear map without hooks."""
    first = mlp[0] if isinstance(mlp, nn.Sequential) and len(mlp) else None
    if not isinstance(first, nn.Linear) or type(first).forward not in (nn.Linear.forward, Linear.forward):
        return None, mlp
    if first._forward_hooks or first._forward_pre_hooks:
        return None, mlp
    narrower = first.out_features < first.in_features
    return (first, mlp[1:]) if narrower else (None, mlp)  # type: ignore[index]
