"""Labels as information about other nodes: label propagation (Zhou et al. 2004), Correct and Smooth (Huang et al. 2020,
arXiv 2010.13993), labels as input features (the label trick; UniMP: Shi et al. 2020, arXiv 2009.03509), and soft labels
for distillation (Hinton et al. 2015, arXiv 1503.02531).

In all functions ``label`` is (N,), int64: the class of a node, or -1 if it is unknown. Self-loops are up to the caller.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from gnnlib._utils.calls import names_checked
from gnnlib._utils.indices import as_indices
from gnnlib.graph import GraphLike, takes_graph
from gnnlib.nn.propagation import APPNP

__all__ = [
    "FeaturesWithLabels",
    "correct_residuals",
    "label_propagation",
    "mask_labels",
    "mix_soft_labels",
    "smooth_predictions",
]


@names_checked()
def mask_labels(label: Tensor, nodes: Tensor) -> Tensor:
    """The labels of some nodes, and -1 for all others.

    Args:
        label: (N,)
        nodes: those that keep their labels, as numbers or as a boolean mask

    Returns:
        (N,)

    Example:
        >>> import torch
        >>> from gnnlib.large import mask_labels
        >>> mask_labels(torch.tensor([2, 0, 1]), torch.tensor([0, 2])).tolist()
        [2, -1, 1]
    """
    masked = torch.full_like(label, -1)
    nodes = as_indices(nodes, len(label), "mask_labels: nodes").to(label.device)
    masked[nodes] = label[nodes]
    return masked


def _one_hot(label: Tensor, num_classes: int) -> Tensor:
    """(N, C); zeros where the class is unknown."""
    if label.dim() != 1 or label.dtype != torch.int64 or (len(label) and int(label.max()) >= num_classes):
        got = f"shape {tuple(label.shape)}, {label.dtype}" + (f", up to {label.max().item()}" if len(label) else "")
        raise ValueError(f"label: expected (N,), int64, from -1 to {num_classes - 1}, got {got}")
    return one_hot(label + 1, num_classes + 1)[:, 1:].float()


@names_checked()
@takes_graph("label")
def label_propagation(graph: GraphLike, label: Tensor, num_classes: int, *, k: int = 50, alpha: float = 0.9) -> Tensor:
    r"""Label propagation (Zhou et al. 2004, "Learning with local and global consistency", algorithm on page 2), which
    needs no features and no training.

    .. math:: F_0 = Y, \qquad F_{i+1} = \alpha D^{-1/2} A D^{-1/2} F_i + (1 - \alpha) Y

    with Y the one-hot labels, and zeros for unknown ones. It is `APPNP` on labels.

    Differs from the paper: k steps instead of the limit.

    Args:
        graph: with every edge in both directions
        label: of the nodes; -1 if unknown
        num_classes: C
        k: number of hops
        alpha: weight of the neighbours

    Shapes:
        - label: (N,)
        - output: scores (N, num_classes)

    Returns:
        the scores

    Raises:
        ValueError: for labels of another shape or type, or out of range

    Example:
        >>> import torch
        >>> from gnnlib.large import label_propagation
        >>> import dgl
        >>> g = dgl.graph(([0, 1, 1, 2], [1, 0, 2, 1]))
        >>> label_propagation(g, torch.tensor([0, -1, -1]), 2).argmax(1).tolist()
        [0, 0, 0]
    """
    return APPNP(k, alpha=1 - alpha)(graph, _one_hot(label, num_classes))


@names_checked()
@takes_graph("prob")
def correct_residuals(graph: GraphLike, prob: Tensor, label: Tensor, *, k: int = 50, alpha: float = 0.9) -> Tensor:
    r"""The correct step of Correct and Smooth (Huang et al. 2020, arXiv 2010.13993, "Correcting for error with residual
    propagation", with Autoscale): the errors at labelled nodes are propagated and added to the predictions.

    .. math:: E = Y - Z \text{ on labelled nodes, } 0 \text{ elsewhere}, \qquad
        \hat E_{i+1} = \alpha S \hat E_i + (1 - \alpha) E, \qquad
        Z^{(r)}_v = Z_v + \sigma \hat e_v / \lVert \hat e_v \rVert_1

    with S = D^-1/2 A D^-1/2, and sigma the mean of \|e_v\|_1 over the labelled nodes.

    Differs from the paper: k steps instead of the limit; a propagated error of less than a thousandth of sigma is added
    without scaling, as in the authors' code.

    Args:
        graph: with every edge in both directions
        prob: Z, the predicted probabilities
        label: of the training nodes; -1 elsewhere
        k: number of hops
        alpha: weight of the neighbours

    Shapes:
        - prob: (N, C)
        - label: (N,)
        - output: (N, C), whose rows need not be probabilities

    Returns:
        the corrected predictions

    Raises:
        ValueError: for shapes that do not fit, or labels that are all unknown

    Example:
        >>> import torch
        >>> from gnnlib.large import correct_residuals
        >>> import dgl
        >>> g = dgl.add_self_loop(dgl.graph(([0, 1], [1, 0])))
        >>> prob = torch.tensor([[0.4, 0.6], [0.4, 0.6]])
        >>> correct_residuals(g, prob, torch.tensor([0, -1])).argmax(1).tolist()
        [0, 0]
    """
    labelled = _labelled(prob, label)
    error = (_one_hot(label, prob.shape[1]).to(prob) - prob) * labelled.unsqueeze(1)
    propagated = APPNP(k, alpha=1 - alpha)(graph, error)
    sigma = error.abs().sum() / labelled.sum()
    scale = sigma / propagated.abs().sum(1, keepdim=True)
    return prob + propagated * scale.where(scale <= 1000, 1.0)


@names_checked()
@takes_graph("prob")
def smooth_predictions(graph: GraphLike, prob: Tensor, label: Tensor, *, k: int = 50, alpha: float = 0.8) -> Tensor:
    r"""The smooth step of Correct and Smooth (Huang et al. 2020, arXiv 2010.13993, "Smoothing final predictions"):
    predictions are propagated, with the labels in their places where they are known.

    .. math:: G = Y \text{ on labelled nodes, } Z^{(r)} \text{ elsewhere}, \qquad H_0 = G, \qquad
        H_{i+1} = \alpha S H_i + (1 - \alpha) G

    Differs from the paper: k steps instead of the limit. Results are not clipped to 0 and 1.

    Args:
        graph: with every edge in both directions
        prob: predictions, such as those of `correct_residuals`
        label: of the training nodes; -1 elsewhere
        k: number of hops
        alpha: weight of the neighbours

    Shapes:
        - prob: (N, C)
        - label: (N,)
        - output: (N, C)

    Returns:
        the smoothed predictions

    Raises:
        ValueError: for shapes that do not fit, or labels that are all unknown

    Example:
        >>> import torch
        >>> from gnnlib.large import smooth_predictions
        >>> import dgl
        >>> g = dgl.add_self_loop(dgl.graph(([0, 1], [1, 0])))
        >>> prob = torch.tensor([[0.4, 0.6], [0.4, 0.6]])
        >>> smooth_predictions(g, prob, torch.tensor([0, -1])).argmax(1).tolist()
        [0, 0]
    """
    labelled = _labelled(prob, label).unsqueeze(1)
    return APPNP(k, alpha=1 - alpha)(graph, torch.where(labelled, _one_hot(label, prob.shape[1]).to(prob), prob))


def _labelled(prob: Tensor, label: Tensor) -> Tensor:
    """The mask of labelled nodes, (N,)."""
    if prob.dim() != 2 or label.shape != prob.shape[:1]:
        raise ValueError(f"expected prob (N, C) and label (N,), got {tuple(prob.shape)} and {tuple(label.shape)}")
    labelled = label >= 0
    if not bool(labelled.any()):
        raise ValueError(f"label: expected some from 0 to {prob.shape[1] - 1}, got {len(label)} unknown ones")
    return labelled


@names_checked()
class FeaturesWithLabels:
    """The label trick: node features with one-hot labels beside them, as input (UniMP: Shi et al. 2020, arXiv
    2009.03509, "masked label prediction").

    ``features[ids]`` is [x_v, one-hot of v's label], with zeros for unknown labels. If the label of a node is in its
    own input, the model only learns to copy it. Therefore, in each epoch the labels of some training nodes are input
    (`mask_labels`), and the labels of the other training nodes are the targets.

    Args:
        x: features by node id, a tensor or an object that looks rows up
        label: of the nodes; -1 if it is not input
        num_classes: C

    Shapes:
        - x: (N, F)
        - label: (N,)
        - output of ``features[ids]``: (n, F + C)

    Example:
        >>> import torch
        >>> from gnnlib.large import FeaturesWithLabels
        >>> FeaturesWithLabels(torch.zeros(3, 1), torch.tensor([1, -1, 0]), 2)[torch.tensor([0, 1])].tolist()
        [[0.0, 0.0, 1.0], [0.0, 0.0, 0.0]]
    """

    def __init__(self, x: Any, label: Tensor, num_classes: int):
        self.x, self.label, self.num_classes = x, label, num_classes

    def __getitem__(self, rows: Tensor) -> Tensor:
        x = self.x[rows]
        return torch.cat([x, _one_hot(self.label[rows], self.num_classes).to(x)], 1)


@names_checked()
def mix_soft_labels(label: Tensor, teacher: Tensor, *, teacher_weight: float = 0.5) -> Tensor:
    r"""Soft labels for distillation (Hinton et al. 2015, arXiv 1503.02531, section 2), or self-distillation if the
    teacher is a model of the same kind (Furlanello et al. 2018, arXiv 1805.04770, section 3).

    .. math:: q_v = (1 - s) \, y_v + s \, p^{teacher}_v

    ``torch.nn.functional.cross_entropy`` takes them as targets: the result is (1 - s) times the cross-entropy with the
    label, plus s times that with the teacher.

    Args:
        label: of the nodes; -1 if unknown: the target is then the teacher's prediction
        teacher: the predicted probabilities of a trained model
        teacher_weight: s, from 0 to 1

    Shapes:
        - label: (N,)
        - teacher: (N, C)
        - output: (N, C)

    Returns:
        the targets

    Raises:
        ValueError: for a ``teacher_weight`` outside 0 to 1, or shapes that do not fit

    Example:
        >>> import torch
        >>> from gnnlib.large import mix_soft_labels
        >>> mix_soft_labels(torch.tensor([0, -1]), torch.tensor([[0.5, 0.5], [0.25, 0.75]])).tolist()
        [[0.75, 0.25], [0.25, 0.75]]
    """
    if not 0 <= teacher_weight <= 1:
        raise ValueError(f"mix_soft_labels: expected a teacher_weight from 0 to 1, got {teacher_weight}")
    if teacher.dim() != 2 or label.shape != teacher.shape[:1]:
        raise ValueError(f"expected teacher (N, C) and label (N,), got {tuple(teacher.shape)} and {tuple(label.shape)}")
    mixed = torch.lerp(_one_hot(label, teacher.shape[1]).to(teacher), teacher, teacher_weight)
    return torch.where((label >= 0).unsqueeze(1), mixed, teacher)
