"""Where objects may be: the boxes of a hierarchy's regions, how boxes overlap, and the best of those that do.

Boxes are (N, 2 d): the first row, column, ..., then those after the last, in pixels.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from gnnlib.images.hierarchy import Hierarchy

__all__ = ["best_overlap", "box_area", "box_iou", "nms", "proposals"]


def proposals(trees: Hierarchy | Sequence[Hierarchy], min_side: int = 1) -> Tensor:
    """The boxes of all regions as guesses where objects are, without knowing of what (Uijlings et al. 2013, "Selective
    Search for Object Recognition", section 4).

    Regions merged last come first, so the whole image is the first guess; several hierarchies, of other similarities
    or first regions, take turns. Of equal boxes the first one stays.

    Differs from the paper: the order is not randomised.

    Args:
        min_side: leave out boxes with a shorter side.

    Shapes: returns (P, 2 d) int64.

    >>> import numpy as np
    >>> from gnnlib.images.hierarchy import hierarchy
    >>> proposals(hierarchy(np.array([[0.0, 0.1, 1.0]]), np.array([[0, 1, 2]]), ["colour"])).tolist()
    [[0, 0, 1, 3], [0, 0, 1, 2], [0, 2, 1, 3], [0, 1, 1, 2], [0, 0, 1, 1]]
    """
    found = [torch.from_numpy(tree.box).flip(0) for tree in ([trees] if isinstance(trees, Hierarchy) else trees)]
    if not found:
        raise ValueError("trees: expected at least one hierarchy, got none")
    turn = torch.cat([torch.arange(len(box)) for box in found])
    boxes = torch.cat(found)[turn.argsort(stable=True)]
    first, last = boxes.chunk(2, dim=1)
    boxes = boxes[((last - first) >= min_side).all(1)]
    _, same = torch.unique(boxes, dim=0, return_inverse=True)
    seen = torch.full((len(boxes),), len(boxes)).scatter_reduce(0, same, torch.arange(len(boxes)), "amin")
    return boxes[seen[seen < len(boxes)].sort().values]


def box_area(boxes: Tensor) -> Tensor:
    """Pixels in each box, or voxels: (N, 2 d) -> (N,).

    >>> box_area(torch.tensor([[0, 0, 2, 3]])).tolist()
    [6]
    """
    first, last = boxes.chunk(2, dim=-1)
    return (last - first).clamp(min=0).prod(-1)


def box_iou(a: Tensor, b: Tensor) -> Tensor:
    """Intersection over union of every box with every other, 0 for two that are empty.

    Shapes: a (N, 2 d), b (M, 2 d); returns (N, M) floating point.

    Raises: ValueError for boxes of other shapes.

    >>> box_iou(torch.tensor([[0, 0, 2, 2]]), torch.tensor([[0, 1, 2, 3], [2, 2, 3, 3]])).tolist()
    [[0.3333333432674408, 0.0]]
    """
    if a.dim() != 2 or b.dim() != 2 or a.shape[1] != b.shape[1] or a.shape[1] % 2:
        raise ValueError(f"boxes: expected shapes (N, 2 d) and (M, 2 d), got {tuple(a.shape)} and {tuple(b.shape)}")
    axes = a.shape[1] // 2
    first, last = torch.maximum(a[:, None, :axes], b[:, :axes]), torch.minimum(a[:, None, axes:], b[:, axes:])
    both = (last - first).clamp(min=0).prod(-1)
    either = box_area(a)[:, None] + box_area(b) - both
    return both / either.where(either > 0, 1)


def nms(boxes: Tensor, score: Tensor, threshold: float = 0.5, label: Tensor | None = None) -> Tensor:
    """Non-maximum suppression: the best box stays, those of its class that overlap it by more than ``threshold`` go,
    and so on with the best that is left (Felzenszwalb et al. 2010, "Object Detection with Discriminatively Trained
    Part-Based Models", section 7).

    Args:
        threshold: largest :func:`box_iou` at which both stay.
        label: the class of each box; boxes of different classes do not compete. None: one class.

    Shapes: boxes (N, 2 d), score (N,), label (N,) or None; returns the rows that stay, (K,) int64, the best first,
    equal scores in their order.

    Raises: ValueError for shapes that do not fit.

    >>> boxes = torch.tensor([[0, 0, 4, 4], [0, 0, 4, 5], [9, 9, 10, 10]])
    >>> score = torch.tensor([0.5, 0.9, 0.1])
    >>> nms(boxes, score).tolist(), nms(boxes, score, label=torch.tensor([0, 1, 0])).tolist()
    ([1, 2], [1, 0, 2])
    """
    label = torch.zeros(len(boxes), dtype=torch.int64, device=boxes.device) if label is None else label
    if score.shape != (len(boxes),) or label.shape != (len(boxes),):
        raise ValueError(
            f"expected a score and a label for each of {len(boxes)} boxes, "
            f"got shapes {tuple(score.shape)} and {tuple(label.shape)}"
        )
    left, kept = score.argsort(descending=True, stable=True), [score.new_zeros(0, dtype=torch.int64)]
    while len(left):
        best, rest = left[:1], left[1:]
        kept.append(best)
        overlap = box_iou(boxes[best], boxes[rest])[0]
        left = rest[(overlap <= threshold) | (label[rest] != label[best])]
    return torch.cat(kept)


def best_overlap(found: Tensor, truth: Tensor) -> Tensor:
    """For each true box the :func:`box_iou` of the guess that fits best, 0 without any; its mean is the average best
    overlap of Uijlings et al. 2013 (section 5), and the share above 0.5 the recall.

    Shapes: found (P, 2 d), truth (T, 2 d); returns (T,).

    >>> best_overlap(torch.tensor([[0, 0, 2, 2], [0, 0, 1, 1]]), torch.tensor([[0, 0, 2, 4]])).tolist()
    [0.5]
    """
    overlap = box_iou(truth, found)
    return overlap.amax(1) if len(found) else overlap.new_zeros(len(truth))
