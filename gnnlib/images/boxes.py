"""Object proposals (selective search; Uijlings et al., 2013), box IoU and non-maximum suppression.

Boxes are (N, 2 d): the first row, column, ..., then those after the last, in pixels.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from gnnlib._utils.calls import names_checked
from gnnlib.images._hierarchy import Hierarchy

__all__ = ["best_overlap", "box_area", "box_iou", "nms", "proposals"]


@names_checked()
def proposals(trees: Hierarchy | Sequence[Hierarchy], min_side: int = 1) -> Tensor:
    """Class-agnostic object proposals: the boxes of all regions (Uijlings et al. 2013, "Selective Search for Object
    Recognition", section 4).

    Regions merged last come first, so the first proposal is the whole image. Proposals of several hierarchies (of other
    similarities or initial regions) are interleaved. Of equal boxes the first one stays.

    Differs from the paper: the order is not randomised.

    Args:
        trees: one or more hierarchies.
        min_side: boxes with a shorter side are left out.

    Shapes:
        - output: (P, 2 d)

    Returns:
        The boxes, int64.

    Raises:
        ValueError: if there is no hierarchy.

    Example:
        >>> import numpy as np
        >>> from gnnlib.images import hierarchy, proposals
        >>> proposals(hierarchy(np.array([[0.0, 0.1, 1.0]]), np.array([[0, 1, 2]]), ["colour"])).tolist()
        [[0, 0, 1, 3], [0, 0, 1, 2], [0, 2, 1, 3], [0, 1, 1, 2], [0, 0, 1, 1]]
    """
    boxes_of = [torch.from_numpy(tree.box).flip(0) for tree in ([trees] if isinstance(trees, Hierarchy) else trees)]
    if not boxes_of:
        raise ValueError("trees: expected at least one hierarchy, got none")
    rank = torch.cat([torch.arange(len(boxes)) for boxes in boxes_of])
    boxes = torch.cat(boxes_of)[rank.argsort(stable=True)]
    first, last = boxes.chunk(2, dim=1)
    boxes = boxes[((last - first) >= min_side).all(1)]
    _, inverse = torch.unique(boxes, dim=0, return_inverse=True)
    index = torch.full((len(boxes),), len(boxes)).scatter_reduce(0, inverse, torch.arange(len(boxes)), "amin")
    return boxes[index[index < len(boxes)].sort().values]


@names_checked()
def box_area(boxes: Tensor) -> Tensor:
    """Number of pixels in each box, or of voxels: (N, 2 d) -> (N,).

    Example:
        >>> import torch
        >>> from gnnlib.images import box_area
        >>> box_area(torch.tensor([[0, 0, 2, 3]])).tolist()
        [6]
    """
    first, last = boxes.chunk(2, dim=-1)
    return (last - first).clamp(min=0).prod(-1)


@names_checked()
def box_iou(a: Tensor, b: Tensor) -> Tensor:
    """Intersection over union of all pairs of boxes, 0 for two empty boxes.

    Shapes:
        - a: (N, 2 d)
        - b: (M, 2 d)
        - output: (N, M), floating point

    Raises:
        ValueError: if the boxes have another shape.

    Example:
        >>> import torch
        >>> from gnnlib.images import box_iou
        >>> box_iou(torch.tensor([[0, 0, 2, 2]]), torch.tensor([[0, 1, 2, 3], [2, 2, 3, 3]])).tolist()
        [[0.3333333432674408, 0.0]]
    """
    if a.dim() != 2 or b.dim() != 2 or a.shape[1] != b.shape[1] or a.shape[1] % 2:
        raise ValueError(f"boxes: expected shapes (N, 2 d) and (M, 2 d), got {tuple(a.shape)} and {tuple(b.shape)}")
    axes = a.shape[1] // 2
    first, last = torch.maximum(a[:, None, :axes], b[:, :axes]), torch.minimum(a[:, None, axes:], b[:, axes:])
    intersection = (last - first).clamp(min=0).prod(-1)
    union = box_area(a)[:, None] + box_area(b) - intersection
    return intersection / union.where(union > 0, 1)


@names_checked()
def nms(boxes: Tensor, score: Tensor, threshold: float = 0.5, label: Tensor | None = None) -> Tensor:
    """Non-maximum suppression (Felzenszwalb et al. 2010, "Object Detection with Discriminatively Trained Part-Based
    Models", section 7): boxes are visited from the best score down, and each suppresses the remaining boxes of its
    class that overlap it by more than ``threshold``.

    Args:
        threshold: largest :func:`box_iou` at which both boxes stay.
        label: the class of each box; boxes suppress their own class only. None: one class.

    Shapes:
        - boxes: (N, 2 d)
        - score: (N,)
        - label: (N,) or None
        - output: (K,)

    Returns:
        The rows that stay, int64, in descending order of score, equal scores in their order.

    Raises:
        ValueError: if score or label has another shape.

    Example:
        >>> import torch
        >>> from gnnlib.images import nms
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
    remaining, rows = score.argsort(descending=True, stable=True), [score.new_zeros(0, dtype=torch.int64)]
    while len(remaining):
        best, rest = remaining[:1], remaining[1:]
        rows.append(best)
        overlap = box_iou(boxes[best], boxes[rest])[0]
        remaining = rest[(overlap <= threshold) | (label[rest] != label[best])]
    return torch.cat(rows)


@names_checked()
def best_overlap(boxes: Tensor, truth: Tensor) -> Tensor:
    """The largest :func:`box_iou` of each ground-truth box with the proposals, 0 without proposals.

    Its mean is the average best overlap of Uijlings et al. 2013 (section 5), and the share above 0.5 the recall.

    Args:
        boxes: the proposals.
        truth: the ground-truth boxes.

    Shapes:
        - boxes: (P, 2 d)
        - truth: (T, 2 d)
        - output: (T,)

    Example:
        >>> import torch
        >>> from gnnlib.images import best_overlap
        >>> best_overlap(torch.tensor([[0, 0, 2, 2], [0, 0, 1, 1]]), torch.tensor([[0, 0, 2, 4]])).tolist()
        [0.5]
    """
    overlap = box_iou(truth, boxes)
    return overlap.amax(1) if len(boxes) else overlap.new_zeros(len(truth))
