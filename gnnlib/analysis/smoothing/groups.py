"""Group distance ratio and instance information gain (Zhou et al. 2020, arXiv 2006.06972): how well features separate
classes and nodes."""

import math

import torch
from torch import Tensor

from gnnlib._utils.calls import names_checked
from gnnlib.analysis.smoothing.base import check_features, split_by_graph
from gnnlib.graph import GraphLike, takes_graph

__all__ = ["group_distance_ratio", "instance_information_gain"]

ROWS = 512  # nodes whose distances to all others are in memory at a time


@names_checked()
@takes_graph()
def group_distance_ratio(graph: GraphLike, x: Tensor, labels: Tensor) -> Tensor:
    r"""Group distance ratio (Zhou et al. 2020, arXiv 2006.06972, equation 2): the mean distance between classes divided
    by the mean distance within a class. It is about 1 if features do not separate the classes.

    .. math:: \frac{1}{C (C - 1)} \sum_{i \ne j} D_{ij} \Big/ \frac1C \sum_i D_{ii}, \qquad
        D_{ij} = \frac{1}{|L_i||L_j|} \sum_{u \in L_i} \sum_{v \in L_j} \lVert x_u - x_v \rVert

    Differs from the paper: it divides the first sum by (C - 1)^2, which is not the number of its terms.

    Args:
        graph: a whole graph or a batch
        x: features
        labels: class of each node; nodes with negative labels are ignored

    Shapes:
        - x: (N, \*, F)
        - labels: (N,), int64
        - output: (B, \*); nan with fewer than two classes, or if all distances are 0

    Returns:
        the ratio of each graph

    Raises:
        TypeError: for features that are not floating-point
        ValueError: for x or labels of another shape or type

    Example:
        >>> import torch
        >>> from gnnlib.analysis.smoothing import group_distance_ratio
        >>> import dgl
        >>> g = dgl.graph(([0, 1], [1, 2]), num_nodes=4)
        >>> group_distance_ratio(g, torch.tensor([[0.0], [1.0], [4.0], [5.0]]), torch.tensor([0, 0, 1, 1])).tolist()
        [8.0]
    """
    x = check_features(graph, x)
    if labels.shape != (len(x),) or labels.is_floating_point():
        raise ValueError(f"labels: expected ({len(x)},) integers, got {labels.dtype} {tuple(labels.shape)}")
    classes = labels.to(x.device).split(graph.batch_num_nodes().tolist())
    return torch.stack([_ratio(part, y) for part, y in zip(split_by_graph(graph, x), classes)])


def _ratio(x: Tensor, labels: Tensor) -> Tensor:
    """One graph: x (\\*, n, F), labels (n,)."""
    labelled = labels >= 0
    x, (classes, label) = x[..., labelled, :], labels[labelled].unique(return_inverse=True)
    member = torch.nn.functional.one_hot(label, len(classes)).to(x)  # (n, C)
    weight = member / member.sum(0)
    between = x.new_zeros(*x.shape[:-2], len(classes), len(classes))
    for rows, part in zip(x.split(ROWS, -2), weight.split(ROWS)):
        between = between + part.T @ torch.cdist(rows, x, compute_mode="donot_use_mm_for_euclid_dist") @ weight
    within = between.diagonal(dim1=-2, dim2=-1).sum(-1)
    return (between.sum((-1, -2)) - within) / (len(classes) - 1) / within if len(classes) > 1 else within * math.nan


@names_checked()
@takes_graph()
def instance_information_gain(graph: GraphLike, x: Tensor, inputs: Tensor, *, variance: float = 0.1) -> Tensor:
    r"""Instance information gain (Zhou et al. 2020, arXiv 2006.06972, equation 3): the mutual information, in nats,
    between the input features of a node and its features x. It is 0 if all nodes are equal, and log n if each can be
    identified.

    .. math:: \frac1n \sum_u \log \frac{n \sum_v k(z_u, z_v)\, k(x_u, x_v)}{\sum_v k(z_u, z_v) \sum_v k(x_u, x_v)},
        \qquad k(a, b) = \exp\Big(-\frac{\lVert a - b \rVert^2}{2 \sigma^2}\Big)

    with z the inputs: the densities of the paper's definition are estimated with Gaussian kernels.

    Args:
        graph: a whole graph or a batch
        x: features
        inputs: z
        variance: sigma squared; 0.1 in the authors' experiments

    Shapes:
        - x: (N, \*, F)
        - inputs: (N, \*, D)
        - output: (B, \*)

    Returns:
        the gain of each graph

    Raises:
        TypeError: for features that are not floating-point
        ValueError: for x or inputs of another shape, or a ``variance`` that is not positive

    Example:
        >>> import torch
        >>> from gnnlib.analysis.smoothing import instance_information_gain
        >>> import dgl
        >>> g = dgl.graph(([0], [1]))
        >>> z = torch.tensor([[0.0], [9.0]])
        >>> instance_information_gain(g, z, z).item(), instance_information_gain(g, 0 * z, z).item()
        (0.6931471805599453, 0.0)
    """
    x, inputs = check_features(graph, x), check_features(graph, inputs, "inputs")
    if variance <= 0:
        raise ValueError(f"variance: expected a positive number, got {variance}")
    parts = zip(split_by_graph(graph, x), split_by_graph(graph, inputs))
    return torch.stack([_information(part, z, variance) for part, z in parts])


def _information(x: Tensor, z: Tensor, variance: float) -> Tensor:
    """One graph: x (\\*, n, F), z (\\*, n, D)."""

    def log_kernel(rows: Tensor, all_rows: Tensor) -> Tensor:
        return torch.cdist(rows, all_rows, compute_mode="donot_use_mm_for_euclid_dist").square() / (-2 * variance)

    gains = []
    for x_rows, z_rows in zip(x.split(ROWS, -2), z.split(ROWS, -2)):
        log_k_x, log_k_z = log_kernel(x_rows, x), log_kernel(z_rows, z)
        gains.append((log_k_x + log_k_z).logsumexp(-1) - log_k_x.logsumexp(-1) - log_k_z.logsumexp(-1))
    return torch.cat(gains, -1).mean(-1) + math.log(max(1, x.shape[-2]))
