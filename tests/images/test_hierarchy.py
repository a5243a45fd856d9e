"""Merging regions: against the definition, worked out anew from the pixels at each step; and what a tree must be."""

from itertools import combinations, count, product

import numpy as np
import pytest
import torch
from scipy import ndimage

from gnnlib import aggregate
from gnnlib.images import Touching, graph_from_labels, hierarchy, paint
from gnnlib.images._hierarchy import SIMILARITIES

RNG = np.random.default_rng(0)
ALL = tuple(SIMILARITIES)


def cells(shape, side=3):
    """Windows side by side, numbered row-major."""
    index = [np.arange(n) // side for n in shape]
    return np.ravel_multi_index(np.meshgrid(*index, indexing="ij"), [int(i[-1]) + 1 for i in index])


def derivatives(values, axes):
    """(*S, C directions), positive parts, over the most that a step gives."""
    slopes = [
        ndimage.gaussian_filter1d(
            ndimage.gaussian_filter(values, [float(i != axis) for i in range(axes)] + [0.0]), 1.0, axis, order=1
        )
        for axis in range(axes)
    ]
    steps = []
    for step in product((-1, 0, 1), repeat=axes):
        if any(step):
            steps.append(sum(s * slope for s, slope in zip(step, slopes)) / np.linalg.norm(step))
    return np.clip(np.concatenate(steps, -1), 0, None) * np.sqrt(2 * np.pi)


def counted(values, bins, low, high):
    """A histogram of (P, F) by numpy, all columns side by side, adding up to 1."""
    values = np.clip(values, low, high)
    rows = [np.histogram(column, bins, (low, high))[0] for column in values.T]
    return np.concatenate(rows) / values.size


def definition(values, inside, a, b, names):
    """The similarity of two sets of pixels, from the paper's formulas."""
    axes, low, high = inside.ndim, values[inside].min(), values[inside].max()
    shown = np.where(inside[..., None], values, 0)
    texture = derivatives(shown, axes) / (high - low)
    total = 0.0
    if "colour" in names:
        total += sum(map(min, *(counted(values[part], 25, low, high) for part in (a, b))))
    if "texture" in names:
        total += sum(map(min, *(counted(texture[part], 10, 0.0, 1.0) for part in (a, b))))
    if "size" in names:
        total += 1 - (a.sum() + b.sum()) / inside.size
    if "fill" in names:
        where = np.argwhere(a | b)
        total += 1 - (np.prod(np.ptp(where, axis=0) + 1) - a.sum() - b.sum()) / inside.size
    return total


def touch(a, b):
    return bool((ndimage.binary_dilation(a) & b).any())


def check(tree, values, labels, inside, names):
    """Each merge is of two regions that touch and that no others exceed in similarity; at the end none touch."""
    parts = {i: (labels == i) & inside for i in range(labels.max() + 1)}
    for new, (a, b), similar in zip(count(len(parts)), tree.merges.tolist(), tree.similarity):
        similarity = {
            (i, j): definition(values, inside, parts[i], parts[j], names)
            for i, j in combinations(sorted(parts), 2)
            if touch(parts[i], parts[j])
        }
        assert similar == pytest.approx(similarity[a, b], rel=1e-12)
        assert similar >= max(similarity.values()) - 1e-12
        parts[new] = parts.pop(a) | parts.pop(b)
    assert not any(touch(a, b) for a, b in combinations(parts.values(), 2))


@pytest.mark.parametrize("names", [ALL, *[(name,) for name in ALL]])
@pytest.mark.parametrize(
    ("shape", "channels"),
    [((9, 9), 3), ((6, 12), 1), ((5, 4, 6), 2), ((14,), 1)],
    ids=["rgb", "grey", "volume", "line"],
)
def test_merges_follow_the_definition(shape, channels, names):
    values, inside = RNG.random((*shape, channels)), np.ones(shape, bool)
    check(hierarchy(values, cells(shape), names), values, cells(shape), inside, names)


def test_a_mask_in_two_pieces():
    values, mask, labels = RNG.random((9, 12, 3)), np.ones((9, 12), bool), cells((9, 12))
    mask[:, 6] = False
    mask[0, 0] = False
    tree = hierarchy(np.where(mask[..., None], values, np.nan), labels, mask=mask)
    check(tree, values, labels, mask, ALL)
    assert (tree.parent == -1).sum() == 2
    assert np.array_equal(tree.cut(2), [0, 0, 1, 1] * 3)
    with pytest.raises(ValueError, match="num_regions: expected 2 to 12 for this hierarchy, got 1"):
        tree.cut(1)


def photograph():
    """Smooth noise, and what it is cut into."""
    image = ndimage.gaussian_filter(RNG.random((30, 36, 3)), (3, 3, 0))
    return image, cells((30, 36), 4)


def test_cuts_are_nested_connected_partitions():
    image, labels = photograph()
    tree, below = hierarchy(image, labels), labels
    assert len(tree.merges) == labels.max()
    for size in (60, 31, 7, 2, 1):
        regions = tree.cut(size)[labels]
        assert np.unique(regions).tolist() == list(range(size))
        assert all(ndimage.label(regions == region)[1] == 1 for region in range(size))
        assert len(np.unique(np.stack([below, regions]).reshape(2, -1), axis=1).T) == below.max() + 1  # nested
        below = regions


def test_areas_boxes_and_parents():
    image, labels = photograph()
    tree = hierarchy(image, labels)
    leaves, parent = labels.max() + 1, tree.parent
    assert parent[-1] == -1
    assert (parent[:-1] > np.arange(len(parent) - 1)).all()
    assert np.array_equal(np.sort(tree.merges.ravel()), np.arange(len(parent) - 1))
    for region in range(len(parent)):
        within = np.zeros(leaves, bool)
        for leaf in range(leaves):
            up = leaf
            while up not in (-1, region):
                up = parent[up]
            within[leaf] = up == region
        where = np.argwhere(within[labels])
        assert tree.area[region] == len(where)
        assert np.array_equal(tree.box[region], [*where.min(0), *(where.max(0) + 1)])


def test_levels_are_the_region_graphs_of_the_cuts():
    image, labels = photograph()
    tree = hierarchy(image, labels)
    sizes, below = (40, 40, 9, 1), tree.graph
    for size, level in zip(sizes, tree.levels(sizes)):
        want = graph_from_labels(image, tree.cut(size)[labels], edges=Touching())
        got = level.graph
        assert all(torch.equal(a, b) for a, b in zip(got.edges(), want.edges()))
        for name in ("feat", "pos"):
            torch.testing.assert_close(got.ndata[name], want.ndata[name], rtol=1e-5, atol=1e-4)
        assert torch.equal(got.edata["border"], want.edata["border"])
        assert torch.equal(got.label_map, want.label_map)
        x = torch.arange(float(size)).view(-1, 1)
        spread = paint(below, aggregate(level.unpool, x).flatten())
        assert torch.equal(spread, paint(got, x.flatten()))
        below = got


def test_similar_regions_are_merged_first():
    image = np.zeros((8, 12, 3))
    image[:, 4:8], image[:, 8:] = (1.0, 0.0, 0.0), (0.0, 0.0, 1.0)
    labels = cells((8, 12), 2)
    tree = hierarchy(image, labels)
    columns = np.arange(12) // 4
    assert np.array_equal(tree.cut(3)[labels], np.broadcast_to(columns, (8, 12)))


def test_one_region_and_a_constant_image():
    tree = hierarchy(np.zeros((3, 3)), np.zeros((3, 3), int))
    assert (tree.merges.shape, tree.parent.tolist(), tree.cut(1).tolist()) == ((0, 2), [-1], [0])
    assert tree.box.tolist() == [[0, 0, 3, 3]]
    assert tree.levels([1])[0].graph.num_nodes() == 1
    tree = hierarchy(np.full((4, 4), 7.0), cells((4, 4), 2))
    assert len(tree.merges) == 3
    assert np.isfinite(tree.similarity).all()


def test_the_same_image_gives_the_same_tree():
    image, labels = photograph()
    first, second = hierarchy(image, labels), hierarchy(torch.from_numpy(image), torch.from_numpy(labels))
    assert np.array_equal(first.merges, second.merges)
    assert np.array_equal(first.similarity, second.similarity)


@pytest.mark.parametrize("names", [[], "colour", ["colour", "shape"]])
def test_unknown_similarities(names):
    with pytest.raises(ValueError, match="similarity: expected one or more of colour, texture, size, fill, in a list"):
        hierarchy(np.zeros((3, 3)), np.zeros((3, 3), int), names)


def test_invalid_arguments():
    tree = hierarchy(np.zeros((4, 4)), cells((4, 4), 2))
    for size in (0, 5):
        with pytest.raises(ValueError, match=f"num_regions: expected 1 to 4 for this hierarchy, got {size}"):
            tree.cut(size)
    with pytest.raises(ValueError, match="sizes: expected no more than the 2 of the level below, got 3"):
        tree.levels([2, 3])
    with pytest.raises(ValueError, match="labels: expected the image's shape"):
        hierarchy(np.zeros((3, 3)), np.zeros((3, 4), int))
