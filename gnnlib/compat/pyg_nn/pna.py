"""PyG's principal neighbourhood aggregation (Corso et al. 2020, arXiv 2004.05718), on gnnlib's kernels."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch_geometric import nn as pyg

from gnnlib.compat.pyg_nn._edges import graph_of
from gnnlib.compat.pyg_nn._routing import KernelLayer, Unserved, routed
from gnnlib.compat.pyg_nn._sums import dense, is_linear
from gnnlib.graph import Adjacency
from gnnlib.ops import aggregate
from gnnlib.ops.edges_as_nodes import incidence

__all__ = ["PNAConv"]

MIN_VARIANCE = 1e-5  # below it PyG's standard deviation is 0


def _variance(adj: Adjacency, m: Tensor) -> Tensor:
    return aggregate(adj, m * m, reduce="mean") - aggregate(adj, m, reduce="mean").square()


def _deviation(adj: Adjacency, m: Tensor) -> Tensor:
    deviation = _variance(adj, m).clamp(min=MIN_VARIANCE).sqrt()
    return deviation.where(deviation > MIN_VARIANCE**0.5, 0.0)


REDUCTIONS: dict[type, Callable[[Adjacency, Tensor], Tensor]] = {
    pyg.SumAggregation: lambda adj, m: aggregate(adj, m),
    pyg.MeanAggregation: lambda adj, m: aggregate(adj, m, reduce="mean"),
    pyg.MaxAggregation: lambda adj, m: aggregate(adj, m, reduce="max"),
    pyg.MinAggregation: lambda adj, m: -aggregate(adj, -m, reduce="max"),
    pyg.VarAggregation: _variance,
    pyg.StdAggregation: _deviation,
}
"""Of messages (E, T, F), with an adjacency from edges to destinations."""

SCALERS: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "identity": lambda degree, linear, log: torch.ones_like(degree),
    "amplification": lambda degree, linear, log: (degree + 1).log() / log,
    "attenuation": lambda degree, linear, log: log / (degree.clamp(min=1) + 1).log(),
    "linear": lambda degree, linear, log: degree / linear,
    "inverse_linear": lambda degree, linear, log: linear / degree.clamp(min=1),
}
"""Factors from in-degrees, their mean in the training set, and the mean of their logarithm."""


class PNAConv(KernelLayer, pyg.PNAConv):
    """``torch_geometric.nn.PNAConv`` on gnnlib's kernels. Of equal maxima one gets the gradient."""

    @routed
    def forward(self, x: Tensor, edge_index: Tensor, edge_attr: Tensor | None = None) -> Tensor:
        scaled = self.aggr_module
        several = isinstance(scaled.aggr, pyg.MultiAggregation)
        if edge_index.layout is not torch.strided or (several and scaled.aggr.mode != "cat"):
            raise Unserved
        aggregators = [type(module) for module in (scaled.aggr.aggrs if several else [scaled.aggr])]
        if not REDUCTIONS.keys() >= set(aggregators) or any(
            getattr(module, "semi_grad", False) for module in scaled.modules()
        ):
            raise Unserved
        adj, _ = graph_of(edge_index, len(x), len(x), self.flow)
        x = x.view(-1, self.towers if self.divide_input else 1, self.F_in).expand(-1, self.towers, -1)
        messages, over = self._messages(adj, x, edge_attr)
        reduced = torch.cat([REDUCTIONS[name](over, messages) for name in aggregators], -1)
        degree = adj.in_degrees.to(x).view(-1, 1, 1)
        factors = [SCALERS[name](degree, scaled.avg_deg_lin, scaled.avg_deg_log) for name in scaled.scaler]
        y = torch.cat([x, *(reduced * factor for factor in factors)], -1)
        return dense(self.lin, torch.cat([module(y[:, tower]) for tower, module in enumerate(self.post_nns)], 1))

    def _messages(self, adj: Adjacency, x: Tensor, edge_attr: Tensor | None) -> tuple[Tensor, Adjacency]:
        """The messages (E, T, F), and the adjacency from edges to destinations.

        The first linear layer of each tower is the sum of a part of each end and one of the edge.
        """
        first = [module[0] for module in self.pre_nns]
        parts = 3 if edge_attr is not None else 2
        if not all(map(is_linear, first)) or any(module.weight.shape[1] != parts * self.F_in for module in first):
            raise Unserved
        dst, src, *edge = torch.stack([module.weight for module in first]).split(self.F_in, 2)
        from_src, from_dst = incidence(adj)
        bias = torch.stack([module.bias for module in first])
        m = aggregate(from_src, _towers(x, src)) + aggregate(from_dst, _towers(x, dst) + bias)
        if edge_attr is not None:
            m = m + _towers(dense(self.edge_encoder, edge_attr).unsqueeze(1), edge[0])
        if len(self.pre_nns[0]) > 1:
            m = torch.stack([module[1:](m[:, tower]) for tower, module in enumerate(self.pre_nns)], 1)
        return m, from_dst.reverse()


def _towers(x: Tensor, weight: Tensor) -> Tensor:
    """x (N, T or 1, F) times the weight (T, O, F) of each tower: (N, T, O)."""
    return torch.einsum("ntf,tof->nto", x.expand(-1, len(weight), -1), weight)
