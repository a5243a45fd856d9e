"""The influence of nodes on the output of a model at another node, by their distance."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from gnnlib._utils.calls import names_checked
from gnnlib._utils.indices import as_indices
from gnnlib._utils.model_state import evaluation_mode
from gnnlib._utils.progress import ProgressBar
from gnnlib.analysis.smoothing.base import check_features, hop_distances
from gnnlib.analysis.smoothing.passes import Forward, default_forward
from gnnlib.graph import GraphLike, takes_graph
from gnnlib.nn._arguments import check_model, integer

__all__ = ["Influence", "influence"]

MAX_NODES = 32  # whose outputs are examined by default; each takes a backward pass for each output


@names_checked()
@dataclass(frozen=True)
class Influence:
    """The result of `influence`.

    ``total`` and ``count`` have a row for each examined node and a column for each distance from 0 hops: the sum of the
    influences of the nodes at this distance, and their number.
    """

    nodes: Tensor
    total: Tensor
    count: Tensor

    @property
    def by_hops(self) -> Tensor:
        """The mean total influence by distance, relative to that of the node itself, (hops + 1,) (Liang et al. 2025,
        arXiv 2503.09008, section 4); infinity if a node does not influence itself."""
        mean = self.total.mean(0)
        return mean / mean[0]

    @property
    def of_one_node(self) -> Tensor:
        """The mean influence of a single node by distance, (hops + 1,); nan for a distance at which there is none."""
        return self.total.sum(0) / self.count.sum(0)

    @property
    def radius(self) -> float:
        """The mean distance of what influences a node, weighted by influence (the same paper): 0 for a model without
        messages."""
        hops = torch.arange(self.total.shape[1], dtype=self.total.dtype)
        return (self.total @ hops / self.total.sum(1)).mean().item()


@names_checked(max_hops="hops=")
@takes_graph()
def influence(
    model: nn.Module,
    graph: GraphLike,
    x: Tensor,
    hops: int,
    *,
    nodes: Any = None,
    forward: Forward = default_forward,
) -> Influence:
    r"""The influence of the input of each node on the output at some nodes, summed by distance.

    .. math:: I_h(v) = \sum_{u:\, d(u, v) = h} \; \sum_{f, c} \Big| \frac{\partial y_{vc}}{\partial x_{uf}} \Big|

    with d the number of edges from u to v. These entries of the Jacobian bound how well a model can use distant nodes
    (Topping et al. 2022, arXiv 2111.14522, lemma 1; Xu et al. 2018, arXiv 1806.03536). They are those of
    ``torch_geometric.utils.total_influence``, on the whole graph.

    The model runs in evaluation mode. It is unchanged afterwards.

    Args:
        model: any module
        graph: a whole graph or a batch
        x: features
        hops: the largest distance
        nodes: whose outputs are examined, as a mask or as numbers; default: 32 random ones, or all if there are fewer
        forward: called as ``forward(model, graph, x)``; default ``model(graph, x)``

    Shapes:
        - x: (N, F)
        - output of the model: (N, C)

    Returns:
        the influence by node and distance

    Raises:
        TypeError: for features that are not floating-point
        ValueError: for a graph with two node sets, x of another shape, or a model whose output has no row per node

    Example:
        >>> import torch
        >>> from gnnlib import GCNConv, Stack
        >>> from gnnlib.analysis import influence
        >>> import dgl
        >>> g = dgl.add_self_loop(dgl.graph(([0, 1, 2, 3], [1, 2, 3, 4])))
        >>> two_layers = Stack.build(GCNConv, 8, 16, 4, num_layers=2)
        >>> result = influence(two_layers, g, torch.randn(5, 8), 4, nodes=[4])
        >>> (result.by_hops > 0).tolist()
        [True, True, True, False, False]
    """
    check_model("influence", model, "a graph and x")
    check_features(graph, x)
    hops = integer("influence", "hops", hops, minimum=0)
    rows = _examined(nodes, graph.num_nodes())
    with evaluation_mode(model), torch.enable_grad():
        x = x.detach().clone().requires_grad_()
        y = forward(model, graph, x.clone())
        if not isinstance(y, Tensor) or y.dim() != 2 or len(y) != graph.num_nodes():
            got = tuple(y.shape) if isinstance(y, Tensor) else type(y).__name__
            raise ValueError(f"influence: expected an output ({graph.num_nodes()}, C), a row for each node, got {got}")
        values = torch.zeros(len(rows), len(x), dtype=torch.float64)
        with ProgressBar("nodes", len(rows)) as bar:
            for i, v in enumerate(rows.tolist()):
                values[i] = _of_inputs(y[v], x)
                bar.advance()
    distance = torch.from_numpy(hop_distances(graph, rows))
    at = torch.stack([distance == h for h in range(hops + 1)], 1)  # (nodes, hops + 1, N)
    return Influence(rows, (at * values.unsqueeze(1)).sum(2), at.sum(2))


def _examined(nodes: Any, num_nodes: int) -> Tensor:
    if nodes is None:
        order = torch.randperm(num_nodes, generator=torch.Generator().manual_seed(0))
        return order[:MAX_NODES].sort().values
    rows = as_indices(nodes, num_nodes, "influence: nodes").cpu()
    if not len(rows):
        raise ValueError("influence: expected nodes, got none")
    return rows


def _of_inputs(y: Tensor, x: Tensor) -> Tensor:
    """(N,): the sum over the outputs y (C,) and the features of |dy / dx|."""
    total = x.new_zeros(len(x), dtype=torch.float64)
    for output in y:
        (gradient,) = torch.autograd.grad(output, x, retain_graph=True, materialize_grads=True)
        total += gradient.flatten(1).abs().sum(1)
    return total.cpu()
