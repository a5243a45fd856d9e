"""Simplified graph convolution: k propagation steps, then one linear map."""

from collections.abc import Sequence
from typing import Any, ClassVar
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from gnnlib.graph import GraphLike, is_graph
from gnnlib.graph._adjacency import is_traced
from gnnlib.graph._derived import Identity, tensor_state
from gnnlib.nn._arguments import integer, one_of
from gnnlib.nn.conv.base import Conv, Features, empty_linear
from gnnlib.ops import propagate
from gnnlib.ops.degrees import DEGREES, NORMS

States = list[tuple[Identity, Any]]
_propagated: "WeakKeyDictionary[SGConv, tuple[States, Tensor]]" = WeakKeyDictionary()
"""The inputs and the result of the last propagation of a layer with ``cached``. A copy or a saved layer has none."""


class SGConv(Conv):
    r"""Simplified graph convolution (Wu et al. 2019, arXiv 1902.07153, equation 8, before the softmax).

    .. math:: Y = (D^{-1/2} A D^{-1/2})^k X W + c

    Differs from the paper: self-loops are the caller's. A node without in-edges gets c (for k > 0).
    State dicts of ``dgl.nn.SGConv`` load.

    Args:
        in_feats: width of the node features
        out_feats: width of the output
        k: number of hops, 0 or more
        norm: as in `GCNConv`
        degrees: "unweighted", "weighted" or "in" (`gnnlib.ops.degree_norm`). None does as ``dgl.nn.SGConv``: with
            edge weights their sums; without, in-edges counted at both ends (in blocks, where the
            in-edges of sources are not known, "unweighted")
        bias: whether to add c
        cached: whether the propagated features are kept for the next call with the same graph, x and edge, as long as
            these are not modified and need no gradient

    Shapes:
        - x: (N, \*, in_feats), or a pair whose second part is not used
        - edge: weights (E,) or (E, 1), or a list of such, one per block, or None
        - output: (N_dst, \*, out_feats)

    Raises:
        ValueError: if an argument is out of range, a shape is wrong, or the number of blocks is not k
        TypeError: if x or edge is no floating-point tensor

    Example:
        >>> import torch
        >>> from gnnlib import SGConv
        >>> import dgl
        >>> g = dgl.add_self_loop(dgl.graph(([0, 1], [1, 0])))
        >>> SGConv(3, 2, k=2)(g, torch.ones(2, 3)).shape
        torch.Size([2, 2])
    """

    takes_edge: ClassVar[str | None] = "weight"

    def __init__(
        self,
        in_feats: int,
        out_feats: int,
        k: int = 1,
        *,
        norm: str = "both",
        degrees: str | None = None,
        bias: bool = True,
        cached: bool = False,
    ):
        super().__init__(in_feats, out_feats)
        self.k = integer(self, "k", k, minimum=0)
        self.norm = one_of(self, "norm", norm, NORMS)
        self.degrees = one_of(self, "degrees", degrees, (None, *DEGREES))
        self.cached = cached
        self.fc = empty_linear(self.in_feats, self.out_feats, bias=bias)
        self.reset_parameters()

    @property
    def bias(self) -> Tensor | None:
        """c, or None."""
        return self.fc.bias

    def reset_parameters(self) -> None:
        """Draw W as Glorot and Bengio (2010) do; c is 0."""
        super().reset_parameters()
        nn.init.xavier_uniform_(self.fc.weight)
        if self.fc.bias is not None:
            nn.init.zeros_(self.fc.bias)

    def forward(
        self,
        graph: GraphLike | Sequence[GraphLike],
        x: Features,
        edge: Tensor | Sequence[Tensor] | None = None,
    ) -> Tensor:
        """Apply the layer.

        Args:
            graph: a graph, or a list of k blocks
            x: node features
            edge: edge weights

        Shapes:
            as of the class

        Returns:
            the features of the destinations
        """
        if not self.cached or is_traced():
            return self.fc(self._propagate(graph, x, edge))
        inputs = _state(graph, x, edge)
        if inputs is None:
            return self.fc(self._propagate(graph, x, edge))
        last, h = _propagated.get(self, (None, None))
        if h is None or inputs != last:
            with torch.inference_mode(False):  # a result of inference mode could not be used in training
                h = self._propagate(graph, x, edge)
            _propagated[self] = inputs, h
        return self.fc(h)

    def _propagate(self, graph: Any, x: Features, edge: Any) -> Tensor:
        """k hops of the features."""
        hops = self._hops(graph)
        edges = edge if isinstance(edge, (list, tuple)) else [edge] * len(hops)
        if len(edges) != len(hops):
            raise ValueError(f"SGConv: expected {len(hops)} edge weights, one for each hop, got {len(edges)}")
        if not hops and is_graph(graph):  # otherwise each hop checks its input
            self.src_features(graph, x)
            self.check_edge(graph, edge)
        for hop, weight in zip(hops, edges, strict=True):
            x, _ = self.src_features(hop, x)
            weight = self.check_edge(hop, weight)
            x = propagate(hop, x, weight, self.norm, self._degrees(hop, weight))
        return x[0] if isinstance(x, tuple) else x

    def _hops(self, graph: GraphLike | Sequence[GraphLike]) -> list[GraphLike]:
        if isinstance(graph, Sequence):
            if len(graph) != self.k:
                raise ValueError(f"SGConv: expected {self.k} blocks, one for each hop, got {len(graph)}")
            return list(graph)
        if self.k > 1 and not graph.is_homogeneous:
            raise ValueError(f"SGConv: expected a whole graph or a list of {self.k} blocks, got one of two node sets")
        return [graph] * self.k

    def _degrees(self, hop: GraphLike, weight: Tensor | None) -> str:
        if self.degrees is not None:
            return self.degrees
        if weight is not None:
            return "weighted"
        return "in" if hop.is_homogeneous else "unweighted"


def _state(*values: Any) -> States | None:
    """Graphs and tensors among some values, with what tells their changes; None where a change cannot be noticed."""
    states: States = []
    for value in values:
        if isinstance(value, (list, tuple)):
            inner = _state(*value)
            if inner is None:
                return None
            states += inner
        elif isinstance(value, Tensor):
            state = None if value.requires_grad else tensor_state(value)
            if state is None:
                return None
            states.append((Identity(value), state))
        elif is_graph(value):  # an edit replaces its structure
            states.append((Identity(value._graph), None))
    return states
