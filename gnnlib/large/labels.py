"""What the labels of some nodes tell of the others: propagated, smoothed over, given as input; and soft ones.

In all of these ``label`` is (N,), int64: the class of a node, -1 where it is not known; self-loops are the caller's.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from gnnlib._platform.dgl import dgl
from gnnlib.nn.propagation import APPNP

__all__ = [
    "WithLabels",
    "correct_residuals",
    "label_features",
    "label_propagation",
    "smooth_predictions",
    "mix_soft_labels",
]


def label_features(label: Tensor, nodes: Tensor) -> Tensor:
    """``label`` where nodes are among these ids, else -1.

    >>> label_features(torch.tensor([2, 0, 1]), torch.tensor([0, 2])).tolist()
    [2, -1, 1]
    """
    known = torch.full_like(label, -1)
    known[nodes] = label[nodes]
    return known


def _one_hot(label: Tensor, num_classes: int) -> Tensor:
    """(N, C); zeros where the class is not known."""
    if label.dim() != 1 or label.dtype != torch.int64 or (len(label) and int(label.max()) >= num_classes):
        got = f"shape {tuple(label.shape)}, {label.dtype}" + (f", up to {label.max().item()}" if len(label) else "")
        raise ValueError(f"label: expected (N,), int64, from -1 to {num_classes - 1}, got {got}")
    return one_hot(label + 1, num_classes + 1)[:, 1:].float()


def label_propagation(graph: dgl.DGLGraph, label: Tensor, num_classes: int, k: int = 50, alpha: float = 0.9) -> Tensor:
    r"""Each node hears its neighbours' classes, and theirs (Zhou et al. 2004, "Learning with local and global
    consistency", algorithm on page 2). No features, nothing learned.

    .. math:: F_0 = Y, \qquad F_{i+1} = \alpha D^{-1/2} A D^{-1/2} F_i + (1 - \alpha) Y

    with Y the known labels, a row of zeros where there is none. It is `APPNP` on labels.

    Args:
        k: number of hops
        alpha: how much of it is the neighbours'

    Shapes: label (N,); returns scores (N, num_classes).

    Raises: ValueError for labels of another shape or type, or out of range.

    Differs from the paper: k steps in place of the limit.

    >>> g = dgl.graph(([0, 1, 1, 2], [1, 0, 2, 1]))
    >>> label_propagation(g, torch.tensor([0, -1, -1]), 2).argmax(1).tolist()
    [0, 0, 0]
    """
    return APPNP(k, alpha=1 - alpha)(graph, _one_hot(label, num_classes))


def correct_residuals(graph: dgl.DGLGraph, prob: Tensor, label: Tensor, k: int = 50, alpha: float = 0.9) -> Tensor:
    r"""A model's errors where labels are known, spread over the graph and added: the first half of Correct and Smooth
    (Huang et al. 2020, arXiv 2010.13993, "Correcting for error with residual propagation", with Autoscale).

    .. math:: E = Y - Z \text{ on known nodes, } 0 \text{ elsewhere}, \qquad
        \hat E_{i+1} = \alpha S \hat E_i + (1 - \alpha) E, \qquad
        Z^{(r)}_v = Z_v + \sigma \hat e_v / \lVert \hat e_v \rVert_1

    with S = D^-1/2 A D^-1/2, and sigma the mean of the known nodes' errors, |e_v|_1.

    Args:
        prob: Z, the model's probabilities
        label: of the training nodes; -1 elsewhere
        k, alpha: as in `label_propagation`

    Shapes: prob (N, C), label (N,); returns (N, C), whose rows need not be probabilities.

    Raises: ValueError for shapes that do not fit, or no known label.

    Differs from the paper: k steps in place of the limit; where less than a thousandth of sigma arrives, it is added
    as it is, as in the authors' code.

    >>> g = dgl.add_self_loop(dgl.graph(([0, 1], [1, 0])))
    >>> prob = torch.tensor([[0.4, 0.6], [0.4, 0.6]])
    >>> correct_residuals(g, prob, torch.tensor([0, -1])).argmax(1).tolist()
    [0, 0]
    """
    known = _known(prob, label)
    error = (_one_hot(label, prob.shape[1]).to(prob) - prob) * known.unsqueeze(1)
    spread = APPNP(k, alpha=1 - alpha)(graph, error)
    size = error.abs().sum() / known.sum()
    scale = size / spread.abs().sum(1, keepdim=True)
    return prob + spread * scale.where(scale <= 1000, 1.0)


def smooth_predictions(graph: dgl.DGLGraph, prob: Tensor, label: Tensor, k: int = 50, alpha: float = 0.8) -> Tensor:
    r"""Predictions that neighbours agree on, with the known labels in their places: the second half of Correct and
    Smooth (Huang et al. 2020, arXiv 2010.13993, "Smoothing final predictions").

    .. math:: G = Y \text{ on known nodes, } Z^{(r)} \text{ elsewhere}, \qquad H_0 = G, \qquad
        H_{i+1} = \alpha S H_i + (1 - \alpha) G

    Args, Shapes and Raises: as of `correct_residuals`, whose result is ``prob`` here. Nothing is cut to 0 and 1.

    >>> g = dgl.add_self_loop(dgl.graph(([0, 1], [1, 0])))
    >>> prob = torch.tensor([[0.4, 0.6], [0.4, 0.6]])
    >>> smooth_predictions(g, prob, torch.tensor([0, -1])).argmax(1).tolist()
    [0, 0]
    """
    known = _known(prob, label).unsqueeze(1)
    return APPNP(k, alpha=1 - alpha)(graph, torch.where(known, _one_hot(label, prob.shape[1]).to(prob), prob))


def _known(prob: Tensor, label: Tensor) -> Tensor:
    if prob.dim() != 2 or label.shape != prob.shape[:1]:
        raise ValueError(f"expected prob (N, C) and label (N,), got {tuple(prob.shape)} and {tuple(label.shape)}")
    known = label >= 0
    if not bool(known.any()):
        raise ValueError(f"label: expected some from 0 to {prob.shape[1] - 1}, got {len(label)} that are not known")
    return known


class WithLabels:
    """Features with known labels beside them, as input (UniMP: Shi et al. 2020, arXiv 2009.03509, "masked label
    prediction"): ``rows[ids]`` is [x_v, one-hot of v's label], (n, F + C), with zeros where it is not known.

    A node whose own label is in its input learns nothing else, so what is known must not be what is asked: in each
    epoch some training nodes' labels are shown (`label_features`), and the others are the targets.

    Args:
        x: features by node id (N, F), a tensor or what looks rows up
        label: (N,), -1 where it is not shown

    >>> WithLabels(torch.zeros(3, 1), torch.tensor([1, -1, 0]), 2)[torch.tensor([0, 1])].tolist()
    [[0.0, 0.0, 1.0], [0.0, 0.0, 0.0]]
    """

    def __init__(self, x: Any, label: Tensor, num_classes: int):
        self.x, self.label, self.num_classes = x, label, num_classes

    def __getitem__(self, rows: Tensor) -> Tensor:
        x = self.x[rows]
        return torch.cat([x, _one_hot(self.label[rows], self.num_classes).to(x)], 1)


def mix_soft_labels(label: Tensor, teacher: Tensor, share: float = 0.5) -> Tensor:
    r"""Targets for distillation (Hinton et al. 2015, arXiv 1503.02531, section 2), from a teacher of the same kind
    self-distillation (Furlanello et al. 2018, arXiv 1805.04770, section 3): part label, part what a trained model says.

    .. math:: q_v = (1 - s) \, y_v + s \, p^{teacher}_v

    ``torch.nn.functional.cross_entropy`` takes them as targets: it is then (1 - s) times that of the label, plus s
    times that of the teacher.

    Args:
        teacher: its probabilities
        share: s, from 0 to 1

    Shapes: label (N,), -1 where it is not known: the teacher alone speaks there; teacher (N, C); returns (N, C).

    Raises: ValueError for a share outside 0 to 1, or shapes that do not fit.

    >>> mix_soft_labels(torch.tensor([0, -1]), torch.tensor([[0.5, 0.5], [0.25, 0.75]])).tolist()
    [[0.75, 0.25], [0.25, 0.75]]
    """
    if not 0 <= share <= 1:
        raise ValueError(f"soft_labels: expected a share from 0 to 1, got {share}")
    if teacher.dim() != 2 or label.shape != teacher.shape[:1]:
        raise ValueError(f"expected teacher (N, C) and label (N,), got {tuple(teacher.shape)} and {tuple(label.shape)}")
    mixed = torch.lerp(_one_hot(label, teacher.shape[1]).to(teacher), teacher, share)
    return torch.where((label >= 0).unsqueeze(1), mixed, teacher)
