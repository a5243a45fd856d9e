"""Dirichlet energy, ranks, correlated and dead features."""

import torch
from torch import Tensor

from gnnlib._utils.calls import names_checked
from gnnlib.analysis.smoothing.base import check_features, split_by_graph, sum_by_graph
from gnnlib.graph import GraphLike, adjacency, node_to_graph, takes_graph
from gnnlib.ops import aggregate

__all__ = [
    "dead_feature_fraction",
    "dirichlet_energy",
    "effective_rank",
    "feature_correlation",
    "numerical_rank",
    "rank_one_distance",
    "rayleigh_quotient",
]

CONSTANT = 1e-12  # relative deviation of a feature that is equal at all nodes up to rounding
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
def rayleigh_quotient(graph: GraphLike, x: Tensor, *, norm: str = "both") -> Tensor:
    r"""The Dirichlet energy relative to the size of the features, from 0 to 2: the Rayleigh quotient of the Laplacian
    I - P of an average P over the in-edges.

    .. math:: \mathrm{both:}\quad
        \frac{\mathrm{tr}\big(x^T (I - D^{-1/2} A D^{-1/2}) x\big)}{\mathrm{tr}(x^T x)}
        \qquad \mathrm{right:}\quad \frac{\mathrm{tr}(x^T (D - A) x)}{\mathrm{tr}(x^T D x)}

    with D the in-degrees, self-loops included. It is 0 only where an average no longer changes the features
    (`fixed_point`): for "both", which is GCN's average, at multiples of the square root of the degree; for "right", the
    mean over neighbours, and for attention, at equal nodes. A measure of another average does not become 0 (Bison and
    Sperduti 2025, arXiv 2512.09890).

    Args:
        graph: a whole graph or a batch, with every edge in both directions
        x: features
        norm: "both" or "right", as in `fixed_point`

    Shapes:
        - x: (N, \*, F)
        - output: (B, \*); 0 for zero features

    Returns:
        the quotient of each graph

    Raises:
        TypeError: for features that are not floating-point
        ValueError: for another ``norm``, or x of another shape

    Example:
        >>> import torch
        >>> from gnnlib.analysis.smoothing import rayleigh_quotient
        >>> import dgl
        >>> star = dgl.add_self_loop(dgl.to_bidirected(dgl.graph(([0, 0, 0], [1, 2, 3]))))
        >>> equal = torch.ones(4, 2)
        >>> [round(rayleigh_quotient(star, equal, norm=norm).item(), 3) for norm in ("right", "both")]
        [0.0, 0.032]
    """
    x = check_features(graph, x)
    if norm not in ("both", "right"):
        raise ValueError(f"norm: expected 'both' or 'right', got {norm!r}")
    degree = adjacency(graph, x.device).in_degrees.clamp(min=1).to(x).view(-1, *[1] * (x.dim() - 1))
    if norm == "both":
        x = x * degree.rsqrt()
    size = sum_by_graph(graph, (degree * x.square()).sum(-1))
    return dirichlet_energy(graph, x) / _or_one(size)


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


@names_checked()
@takes_graph()
def rank_one_distance(graph: GraphLike, x: Tensor) -> Tensor:
    r"""The relative distance of the features to the nearest matrix of rank one (Eckart and Young 1936), from 0 to 1.

    .. math:: \min_{u, v} \lVert X - u v^T \rVert_F \big/ \lVert X \rVert_F
        = \sqrt{1 - \sigma_1^2 \big/ \textstyle\sum_i \sigma_i^2}

    Roth and Liebig (2023, arXiv 2308.16800) show that deep networks converge to rank one, whatever happens to the
    energy.

    Args:
        graph: a whole graph or a batch
        x: features

    Shapes:
        - x: (N, \*, F)
        - output: (B, \*); 0 for zero features

    Returns:
        the distance of each graph

    Example:
        >>> import torch
        >>> from gnnlib.analysis.smoothing import rank_one_distance
        >>> import dgl
        >>> g = dgl.graph(([0], [1]))
        >>> rank_one_distance(g, torch.tensor([[4.0, 0.0], [0.0, 3.0]])).round(decimals=6).tolist()
        [0.6]
    """
    squares = [torch.linalg.svdvals(part).square() for part in split_by_graph(graph, check_features(graph, x))]
    return torch.stack([(s[..., 1:].sum(-1) / _or_one(s.sum(-1))).sqrt() for s in squares])


@names_checked()
@takes_graph()
def feature_correlation(graph: GraphLike, x: Tensor) -> Tensor:
    r"""The mean absolute correlation of pairs of features (Jin et al. 2022, arXiv 2206.07743, equation 2), from 0 to 1:
    over-correlated features hold the same information.

    .. math:: \mathrm{mean}_{i \neq j} \, | \rho(x_{:i}, x_{:j}) |

    with Pearson's correlation. Features that are equal at all nodes are left out.

    Args:
        graph: a whole graph or a batch
        x: features

    Shapes:
        - x: (N, \*, F)
        - output: (B, \*); nan where fewer than two features vary

    Returns:
        the correlation of each graph

    Example:
        >>> import torch
        >>> from gnnlib.analysis.smoothing import feature_correlation
        >>> import dgl
        >>> g = dgl.graph(([0, 1], [1, 2]))
        >>> feature_correlation(g, torch.tensor([[1.0, -2.0], [2.0, -4.0], [3.0, -6.0]])).round(decimals=6).tolist()
        [1.0]
    """
    values = []
    for part in split_by_graph(graph, check_features(graph, x)):
        centred = part - part.mean(-2, keepdim=True)
        length = centred.norm(dim=-2)
        varies = length > CONSTANT * part.norm(dim=-2)
        unit = centred / _or_one(length).unsqueeze(-2) * varies.unsqueeze(-2)
        correlation = (unit.transpose(-1, -2) @ unit).abs().sum((-1, -2))
        count = varies.sum(-1).to(x.double())
        pairs = (count * (count - 1)).where(count > 1, torch.nan)
        values.append((correlation - count) / pairs)  # without i = j
    return torch.stack(values)


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
