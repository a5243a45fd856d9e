"""Boxes: overlaps against pixels, suppression against a loop, and objects found by the regions they are made of."""

import numpy as np
import pytest
import torch

from gnnlib.images import best_overlap, box_area, box_iou, hierarchy, nms, proposals


def drawn(count, axes=2, seed=0, upto=8):
    """Boxes of whole pixels, some of them empty."""
    some = np.random.default_rng(seed)
    first, side = some.integers(0, upto, (count, axes)), some.integers(0, upto, (count, axes))
    return torch.from_numpy(np.hstack([first, np.minimum(first + side, upto)]))


def filled(box, upto=8):
    first, last = box.numpy().reshape(2, -1)
    pixels = np.zeros([upto] * len(first), bool)
    pixels[tuple(map(slice, first, last))] = True
    return pixels


@pytest.mark.parametrize("axes", [1, 2, 3])
def test_overlaps_are_those_of_the_pixels(axes):
    a, b = drawn(12, axes), drawn(9, axes, seed=1)
    got = box_iou(a, b)
    for i, one in enumerate(map(filled, a)):
        assert box_area(a)[i] == one.sum()
        for j, other in enumerate(map(filled, b)):
            assert got[i, j] == pytest.approx((one & other).sum() / max((one | other).sum(), 1))
    torch.testing.assert_close(box_iou(a.double(), b.double()), got.double())
    torch.testing.assert_close(got, box_iou(b, a).T)


def overlap(a, b):
    shared = 1.0
    for axis in range(2):
        shared *= max(min(a[axis + 2], b[axis + 2]) - max(a[axis], b[axis]), 0)
    either = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)) - shared
    return shared / either if either else 0.0


def naive_nms(boxes, score, threshold, label):
    selected = []
    for i in sorted(range(len(boxes)), key=lambda i: (-score[i], i)):
        if all(label[i] != label[j] or overlap(boxes[i], boxes[j]) <= threshold for j in selected):
            selected.append(i)
    return selected


@pytest.mark.parametrize("threshold", [0.0, 0.3, 0.5, 1.0])
@pytest.mark.parametrize("count", [0, 1, 2, 30, 120])
def test_suppression_is_the_loop(count, threshold):
    boxes, some = drawn(count, seed=count), torch.Generator().manual_seed(count)
    score = torch.randint(0, 6, (count,), generator=some) / 6  # with ties
    label = torch.randint(0, 3, (count,), generator=some)
    assert nms(boxes, score, threshold, label).tolist() == naive_nms(
        boxes.tolist(), score.tolist(), threshold, label.tolist()
    )
    assert nms(boxes, score, threshold).tolist() == naive_nms(boxes.tolist(), score.tolist(), threshold, [0] * count)


def test_nms_suppresses_overlapping_boxes_only():
    boxes, score = drawn(80, seed=5).float(), torch.rand(80)
    rows = nms(boxes, score, 0.4)
    assert float((box_iou(boxes[rows], boxes[rows]) - torch.eye(len(rows))).clamp(min=0).max()) <= 0.4 + 1e-6
    gone = torch.tensor(sorted(set(range(80)) - set(rows.tolist())))
    near = (box_iou(boxes[gone], boxes[rows]) > 0.4) & (score[rows] >= score[gone].unsqueeze(1))
    assert bool(near.any(1).all())


def scene():
    """Three rectangles on a ground, each cut into pieces."""
    image, truth = np.full((24, 30, 3), 0.2), [(2, 3, 11, 12), (4, 17, 20, 22), (15, 6, 22, 15)]
    for (top, left, bottom, right), colour in zip(truth, np.eye(3)):
        image[top:bottom, left:right] = colour
    colours = np.unique(image.reshape(-1, 3), axis=0, return_inverse=True)[1].reshape(24, 30)
    blocks = (np.arange(24) // 5)[:, None] * 6 + np.arange(30) // 5
    return image, np.unique(blocks * 9 + colours, return_inverse=True)[1].reshape(24, 30), torch.tensor(truth)


def test_objects_are_among_the_proposals():
    image, labels, truth = scene()
    tree = hierarchy(image, labels)
    boxes = proposals(tree)
    assert best_overlap(boxes, truth).tolist() == [1.0] * 3
    assert best_overlap(torch.from_numpy(tree.box[: labels.max() + 1]), truth).max() < 0.8  # the pieces alone are not
    assert boxes[0].tolist() == [0, 0, 24, 30]
    assert len(torch.unique(boxes, dim=0)) == len(boxes)
    assert {tuple(box) for box in boxes.tolist()} == {tuple(box) for box in tree.box.tolist()}


def test_several_hierarchies_take_turns():
    image, labels, _ = scene()
    trees = [hierarchy(image, labels, names) for names in (["colour", "size"], ["texture", "fill"])]
    both, seen = proposals(trees).tolist(), []
    for pair in zip(*(tree.box[::-1].tolist() for tree in trees)):
        seen += [box for box in pair if box not in seen]
    assert both == list(map(list, dict.fromkeys(map(tuple, seen))))
    wide = proposals(trees, min_side=6).tolist()
    assert wide == [box for box in both if box[2] - box[0] >= 6 and box[3] - box[1] >= 6]


def test_best_overlaps():
    boxes, truth = drawn(20, seed=2), drawn(6, seed=3)
    best = [max(overlap(t, f) for f in boxes.tolist()) for t in truth.tolist()]
    assert best_overlap(boxes, truth).tolist() == pytest.approx(best)
    assert best_overlap(boxes[:0], truth).tolist() == [0.0] * 6


def test_invalid_arguments():
    boxes = drawn(4)
    with pytest.raises(ValueError, match=r"expected shapes \(N, 2 d\) and \(M, 2 d\), got \(4, 4\) and \(4,\)"):
        box_iou(boxes, boxes[:, 0])
    with pytest.raises(ValueError, match="got \\(4, 3\\)"):
        box_iou(boxes[:, :3], boxes[:, :3])
    with pytest.raises(ValueError, match=r"each of 4 boxes, got shapes \(3,\) and \(4,\)"):
        nms(boxes, torch.ones(3))
    with pytest.raises(ValueError, match=r"got shapes \(4,\) and \(5,\)"):
        nms(boxes, torch.ones(4), label=torch.ones(5))
    with pytest.raises(ValueError, match="expected at least one hierarchy, got none"):
        proposals([])
