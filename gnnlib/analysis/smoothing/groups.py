"""Measures that ask whether features still tell apart what they should: classes, or single nodes."""

import math

import torch
from torch import Tensor

from gnnlib._platform.dgl import dgl
from gnnlib.analysis.smoothing.base import checked, each_part

__all__ = ["group_distance_ratio", "instance_information_gain"]

ROWS = 512  # nodes whose distances to all others are held at a time


def group_distance_ratio(graph: dgl.DGLGraph, x: Tensor, labels: Tensor) -> Tensor:
    r"""Group distance ratio (Zhou et al. 2020, arXiv 2006.06972, equation 2): the mean distance between classes over
    the mean distance within one. About 1: the classes cannot be told apart.

    .. math:: \frac{1}{C (C - 1)} \sum_{i \ne j} D_{ij} \Big/ \frac1C \sum_i D_{ii}, \qquad
        D_{ij} = \frac{1}{|L_i||L_j|} \sum_{u \in L_i} \sum_{v \in L_j} \lVert x_u - x_v \rVert

    Differs from the paper: it divides the first sum by (C - 1)^2, which is not the number of its terms.

    Args:
        graph: a whole graph or a batch
        x: features
        labels: class of each node; negative: unknown, left out

    Shapes: x (N, \*, F), labels (N,) int64; returns (B, \*); nan with fewer than two classes, or all distances 0.

    >>> g = dgl.graph(([0, 1], [1, 2]), num_nodes=4)
    >>> group_distance_ratio(g, torch.tensor([[0.0], [1.0], [4.0], [5.0]]), torch.tensor([0, 0, 1, 1])).tolist()
    [8.0]
    """
    x = checked(graph, x)
    if labels.shape != (len(x),) or labels.is_floating_point():
        raise ValueError(f"labels: expected ({len(x)},) integers, got {labels.dtype} {tuple(labels.shape)}")
    classes = labels.to(x.device).split(graph.batch_num_nodes().tolist())
    return torch.stack([_ratio(part, y) for part, y in zip(each_part(graph, x), classes)])


def _ratio(x: Tensor, labels: Tensor) -> Tensor:
    """One graph: x (\\*, n, F), labels (n,)."""
    known = labels >= 0
    x, (classes, label) = x[..., known, :], labels[known].unique(return_inverse=True)
    member = torch.nn.functional.one_hot(label, len(classes)).to(x)  # (n, C)
    share = member / member.sum(0)
    between = x.new_zeros(*x.shape[:-2], len(classes), len(classes))
    for rows, part in zip(x.split(ROWS, -2), share.split(ROWS)):
        between = between + part.T @ torch.cdist(rows, x, compute_mode="donot_use_mm_for_euclid_dist") @ share
    within = between.diagonal(dim1=-2, dim2=-1).sum(-1)
    return (between.sum((-1, -2)) - within) / (len(classes) - 1) / within if len(classes) > 1 else within * math.nan


def instance_information_gain(graph: dgl.DGLGraph, x: Tensor, inputs: Tensor, variance: float = 0.1) -> Tensor:
    r"""Instance information gain (Zhou et al. 2020, arXiv 2006.06972, equation 3): the mutual information, in nats,
    between what came in at a node and what has become of it; 0 where all nodes are alike, log n where each is known.

    .. math:: \frac1n \sum_u \log \frac{n \sum_v k(z_u, z_v)\, k(x_u, x_v)}{\sum_v k(z_u, z_v) \sum_v k(x_u, x_v)},
        \qquad k(a, b) = \exp\Big(-\frac{\lVert a - b \rVert^2}{2 \sigma^2}\Big)

    with z the inputs: the densities of the paper's definition estimated with Gaussian kernels.

    Args:
        graph: a whole graph or a batch
        x: features
        inputs: z
        variance: sigma squared; 0.1 in the authors' experiments

    Shapes: x (N, \*, F), inputs (N, \*, D); returns (B, \*).

    >>> g = dgl.graph(([0], [1]))
    >>> z = torch.tensor([[0.0], [9.0]])
    >>> instance_information_gain(g, z, z).item(), instance_information_gain(g, 0 * z, z).item()
    (0.6931471805599453, 0.0)
    """
    x, inputs = checked(graph, x), checked(graph, inputs, "inputs")
    if variance <= 0:
        raise ValueError(f"variance: expected a positive number, got {variance}")
    parts = zip(each_part(graph, x), each_part(graph, inputs))
    return torch.stack([_information(part, given, variance) for part, given in parts])


def _information(x: Tensor, z: Tensor, variance: float) -> Tensor:
    """One graph: x (\\*, n, F), z (\\*, n, D)."""

    def log_kernel(rows: Tensor, all_rows: Tensor) -> Tensor:
        return torch.cdist(rows, all_rows, compute_mode="donot_use_mm_for_euclid_dist").square() / (-2 * variance)

    gains = []
    for x_rows, z_rows in zip(x.split(ROWS, -2), z.split(ROWS, -2)):
        one, other = log_kernel(x_rows, x), log_kernel(z_rows, z)
        gains.append((one + other).logsumexp(-1) - one.logsumexp(-1) - other.logsumexp(-1))
    return torch.cat(gains, -1).mean(-1) + math.log(max(1, x.shape[-2]))
