"""Dirichlet energy, numerical and effective rank, dead features."""

import torch
from torch import Tensor

from gnnlib._utils.calls import names_checked
from gnnlib.analysis.smoothing.base import check_features, split_by_graph
from gnnlib.graph import GraphLike, adjacency, node_to_graph, takes_graph
from gnnlib.ops import aggregate

__all__ = ["dead_feature_fraction", "dirichlet_energy", "effective_rank", "numerical_rank"]

CHUNK = 2**22  # differences in memory at a time: 32 MiB


@names_checked()
@takes_graph()
def dirichlet_energy(graph: GraphLike, x: Tensor, *, edge_weight: Tensor | None = None, norm: str = "none") -> Tensor:
    r"""Dirichlet energy (Cai and Wang 2020, arXiv 2006.13318, definition 3.1): the squared differences of features
    along the edges.

    .. math:: E(x) = \frac12 \sum_{u \to v} w_{uv} \Big| \frac{x_u}{\sqrt{d_u}} - \frac{x_v}{\sqrt{d_v}} \Big|^2

    With ``norm="both"`` (the paper's) d is 1 + the weights of the in-edges from other nodes; with "none" it is 1, and
    E = tr(x^T (D - A) x). An edge in both directions counts once. The energy per node of Rusch, Bronstein and Mishra
    (2023, arXiv 2303.10993) is 2 E / N with "none". Self-loops change neither.

    Args:
        graph: a whole graph or a batch
        x: features
        edge_weight: w; default 1
        norm: "none" or "both"

    Shapes:
        - x: (N, \*, F)
        - edge_weight: (E,)
        - output: (B, \*)

    Returns:
        the energy of each graph

    Raises:
        TypeError: for features that are not floating-point
        ValueError: for another ``norm``, or x or edge_weight of another shape

    Example:
        >>> import torch
        >>> from gnnlib.analysis.smoothing import dirichlet_energy
        >>> import dgl
        >>> g = dgl.graph(([0, 1, 1, 2], [1, 0, 2, 1]))
        >>> x = torch.tensor([[1.0], [2.0], [5.0]])
        >>> dirichlet_energy(g, x).tolist()
        [10.0]
    """
    x = check_features(graph, x)
    if norm not in ("none", "both"):
        raise ValueError(f"norm: expected 'none' or 'both', got {norm!r}")
    adj = adjacency(graph, x.device)
    if edge_weight is None:
        edge_weight = x.new_ones(adj.num_edges)
    elif edge_weight.shape != (adj.num_edges,):
        raise ValueError(f"edge_weight: expected shape ({adj.num_edges},), got {tuple(edge_weight.shape)}")
    weight = edge_weight.to(x)
    if norm == "both":
        no_loops = weight * (adj.src != adj.dst)
        degree = 1 + aggregate(adj, x.new_ones(len(x), 1), no_loops)
        x = x * degree.rsqrt().view(-1, *[1] * (x.dim() - 1))
    graph_ids = node_to_graph(graph, x.device).dst
    energy = x.new_zeros(graph.batch_size, *x.shape[1:-1])
    for edges in torch.arange(adj.num_edges, device=x.device).split(max(1, CHUNK // max(1, x.shape[1:].numel()))):
        src, dst = adj.src[edges], adj.dst[edges]
        square = (x[src] - x[dst]).square().sum(-1)
        energy = energy.index_add(0, graph_ids[dst], square * weight[edges].view(-1, *[1] * (square.dim() - 1)))
    return energy / 2


@names_checked()
@takes_graph()
def numerical_rank(graph: GraphLike, x: Tensor) -> Tensor:
    r"""The numerical rank, or stable rank (Rudelson and Vershynin 2007, arXiv math/0503442): 1 if all nodes are
    multiples of one vector, and at most the rank.

    .. math:: \lVert X \rVert_F^2 \big/ \lVert X \rVert_2^2 = \sum_i \sigma_i^2 \big/ \max_i \sigma_i^2

    Zhang, Deidda, Higham and Tudisco (2025, arXiv 2502.04591) show that it falls to 1 in deep networks whose
    energy does not fall.

    Args:
        graph: a whole graph or a batch
        x: features

    Shapes:
        - x: (N, \*, F)
        - output: (B, \*); 0 for zero features

    Returns:
        the rank of each graph

    Example:
        >>> import torch
        >>> from gnnlib.analysis.smoothing import numerical_rank
        >>> import dgl
        >>> g = dgl.graph(([0], [1]))
        >>> numerical_rank(g, torch.tensor([[2.0, 0.0], [0.0, 1.0]])).tolist()
        [1.25]
    """
    squares = [torch.linalg.svdvals(part).square() for part in split_by_graph(graph, check_features(graph, x))]
    return torch.stack([s.sum(-1) / _or_one(s[..., :1].sum(-1)) for s in squares])


@names_checked()
@takes_graph()
def effective_rank(graph: GraphLike, x: Tensor) -> Tensor:
    r"""The effective rank (Roy and Vetterli 2007, "The effective rank: a measure of effective dimensionality"): the
    exponential of the entropy of the singular values.

    .. math:: \exp\Big(-\sum_i p_i \log p_i\Big), \qquad p_i = \sigma_i \Big/ \sum_j \sigma_j

    Args:
        graph: a whole graph or a batch
        x: features

    Shapes:
        - x: (N, \*, F)
        - output: (B, \*), from 1 to min(n, F); 0 for zero features

    Returns:
        the rank of each graph

    Example:
        >>> import torch
        >>> from gnnlib.analysis.smoothing import effective_rank
        >>> import dgl
        >>> g = dgl.graph(([0], [1]))
        >>> effective_rank(g, torch.tensor([[3.0, 0.0], [0.0, 3.0]])).round(decimals=6).tolist()
        [2.0]
    """
    ranks = []
    for part in split_by_graph(graph, check_features(graph, x)):
        sigma = torch.linalg.svdvals(part)
        total = sigma.sum(-1, keepdim=True)
        entropy = torch.special.entr(sigma / _or_one(total)).sum(-1)
        ranks.append(entropy.exp() * (total.squeeze(-1) > 0))
    return torch.stack(ranks)


def _or_one(value: Tensor) -> Tensor:
    return value.where(value > 0, 1.0)


@names_checked()
@takes_graph()
def dead_feature_fraction(graph: GraphLike, x: Tensor) -> Tensor:
    """The fraction of dead features, which are 0 at every node, such as those of a dying ReLU (Lu et al. 2020, arXiv
    1903.06733).

    Args:
        graph: a whole graph or a batch
        x: features

    Shapes:
        - x: (N, \\*, F)
        - output: (B, \\*)

    Returns:
        the fraction of each graph

    Example:
        >>> import torch
        >>> from gnnlib.analysis.smoothing import dead_feature_fraction
        >>> import dgl
        >>> g = dgl.graph(([0], [1]))
        >>> dead_feature_fraction(g, torch.tensor([[0.0, 1.0], [0.0, 0.0]])).tolist()
        [0.5]
    """
    return torch.stack(
        [(part == 0).all(-2).double().mean(-1) for part in split_by_graph(graph, check_features(graph, x))]
    )
