"""Errors of symmetry for models of known symmetry, and permutation equivariance of every layer."""

import math
from functools import partial

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import nn

from gnnlib import (
    BatchNorm,
    ChebConv,
    ECConv,
    GATConv,
    GatedGCNConv,
    GATv2Conv,
    GCNConv,
    GCNEConv,
    GINConv,
    GINEConv,
    MessageConv,
    MoNetConv,
    PNAConv,
    PredEdgeConv,
    RelGraphConv,
    SAGEConv,
    SGConv,
    SplineConv,
    Stack,
    readout_flat,
    readout_max,
    readout_mean,
    readout_sum,
)
from gnnlib._platform.dgl import dgl
from gnnlib.analysis.symmetry import (
    class_distances,
    deformation_distance,
    node_permutation,
    permutation_error,
    random_displacement,
    relabel,
    shift,
    translation_error,
    warp,
)
from gnnlib.grid import GridConv, lattice, to_images, to_nodes
from gnnlib.images import pixel_batch, pixel_graph, superpixel_graph
from gnnlib.nn import conv
from gnnlib.nn.conv.base import Conv
from gnnlib.testing.graphs import GRAPHS, HOMOGENEOUS, bipartite, random_graph

SIZE = (7, 6)
LAYERS = {
    "gcn": GCNConv,
    "gin": lambda i, o: GINConv(i, o, apply_func=nn.Linear(i, o)),
    "gine": partial(GINEConv, edge_feats=9),
    "gcne": partial(GCNEConv, edge_feats=9),
    "sage": SAGEConv,
    "gat": lambda i, o: GATConv(i, o // 4, 4),
    "gatv2": lambda i, o: GATv2Conv(i, o // 4, 4),
    "sgc": partial(SGConv, k=2),
    "ecc": partial(ECConv, edge_feats=9),
    "gated-gcn": partial(GatedGCNConv, edge_feats=9),
    "pna": partial(PNAConv, edge_feats=9),
    "message": partial(MessageConv, edge_feats=9),
    "cheb": partial(ChebConv, k=3),
    "monet": partial(MoNetConv, dim=9, num_kernels=2),
    "pred-edge": partial(PredEdgeConv, pos_feats=2),
    "spline": partial(SplineConv, kernel_size=3),
    "rel-graph": partial(RelGraphConv, num_rels=9),
    "grid": partial(GridConv, kernel_size=3),
    "grid-messages": partial(GridConv, kernel_size=3, dense=False),
}


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def images(num=5, channels=2, size=(9, 8)):
    return torch.randn(num, channels, *size, dtype=torch.float64)


# ---------------------------------------------------------------- translations


@pytest.mark.parametrize("axes", [1, 2, 3])
def test_circular_and_zero_padding(axes):
    conv = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[axes - 1]
    x = images(size=(9, 8, 7)[:axes])
    wrapped = conv(2, 3, 3, padding=1, padding_mode="circular").double()
    assert translation_error(wrapped, x, [0, 1, 2, 5]).max() < 1e-13
    padded = conv(2, 3, 3, padding=1).double()
    assert translation_error(padded, x, [1, 2]).min() > 0.05
    assert translation_error(padded, x, [0, 1, 2], margin=1).max() < 1e-13


def test_every_layer_needs_a_margin():
    net = nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 3, 3, padding=1)).double()
    x = images(size=(11, 12))
    assert translation_error(net, x, [1], margin=2) < 1e-13
    assert translation_error(net, x, [1], margin=0) > 1e-3


def test_a_stride_is_equivariant_to_its_multiples():
    conv = nn.Conv2d(2, 3, 4, stride=2, padding=1, padding_mode="circular").double()
    x = images(size=(8, 12))
    assert translation_error(conv, x, [2, 4], stride=2).max() < 1e-13
    assert translation_error(conv, x, [1], stride=1) > 0.1, "one pixel is half an output"
    with pytest.raises(ValueError, match=r"multiples of the stride 2, got \[1, 2\]"):
        translation_error(conv, x, [1, 2], stride=2)


def test_translation_error_against_the_formula():
    weight = torch.randn(SIZE, dtype=torch.float64)
    x = images(3, 1, SIZE)
    pairs = [(f, r) for axis in (2, 3) for step in (2, -2) for f, r in [(x.roll(step, axis) * weight, (x * weight))]]
    expected = [r.roll(step, axis) for (_, r), (axis, step) in zip(pairs, [(2, 2), (2, -2), (3, 2), (3, -2)])]
    above = sum(((f - w) ** 2).sum() for (f, _), w in zip(pairs, expected))
    below = sum((w**2).sum() for w in expected)
    error = translation_error(lambda images: images * weight, x, [2])
    torch.testing.assert_close(error, (above / below).sqrt().view(1))


def test_invariance_of_outputs_per_image():
    x = images()
    mean = nn.Sequential(nn.Conv2d(2, 3, 3, padding=1, padding_mode="circular"), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    assert translation_error(mean.double(), x, [1, 3]).max() < 1e-13
    flat = nn.Sequential(nn.Flatten(), nn.Linear(2 * 9 * 8, 10), nn.ReLU(), nn.Linear(10, 3)).double()
    assert translation_error(flat, x, [1, 3]).min() > 0.1
    inside = nn.functional.pad(x, [2] * 4)
    assert translation_error(mean.double(), inside, [1, 2], margin=0).max() < 1e-13, "no pixel leaves the image"
    assert translation_error(mean.double(), x, [1], margin=0) > 1e-3


def test_layers_on_the_pixel_graph():
    graph, x = pixel_graph((11, 12)), images(4, 2, (11, 12))

    def on_images(net):
        return lambda images: to_images(net(graph, to_nodes(images)), images.shape[2:])

    for make in (partial(GridConv, kernel_size=3), SAGEConv, partial(PredEdgeConv, pos_feats=2)):
        net = Stack.build(make, 2, 8, 3, num_layers=2).double()
        if isinstance(net.blocks[0].conv, PredEdgeConv):
            assert translation_error(on_images(net), x, [1], margin=3) > 1e-3, "weights depend on the position"
        else:
            assert translation_error(on_images(net), x, [1, 2], margin=2).max() < 1e-13
    gcn = Stack.build(GCNConv, 2, 8, 3, num_layers=2).double()
    assert translation_error(on_images(gcn), x, [1, 2], margin=3).max() < 1e-13
    assert translation_error(on_images(gcn), x, [1, 2], margin=2).min() > 1e-6, "degrees reach one cell further"
    narrow = GridConv(2, 3, 3).double()
    valid = lattice((11, 12), 3)
    error = translation_error(lambda images: to_images(narrow(valid, to_nodes(images)), (9, 10)), x, [1, 2], margin=0)
    assert error.max() < 1e-13


@pytest.mark.parametrize("step", [0, 1, -2, 8, -30])
@pytest.mark.parametrize("axis", [0, 1])
def test_shift_against_scipy(step, axis):
    x = images()
    offset = [0, 0, *(step if a == axis else 0 for a in range(2))]
    for wrap, mode in ((True, "grid-wrap"), (False, "constant")):
        expected = ndimage.shift(x.numpy(), offset, order=0, mode=mode)
        torch.testing.assert_close(shift(x, step, axis, wrap=wrap), torch.from_numpy(expected), rtol=0, atol=0)


def test_invalid_outputs():
    with pytest.raises(ValueError, match=r"of 5 images with 2 axes, got \(5, 9, 8\)"):
        translation_error(lambda images: images.sum(1), images(), [1])
    with pytest.raises(ValueError, match=r"of 5 images with 2 axes, got \(2, 3\)"):
        translation_error(lambda images: torch.zeros(2, 3), images(), [1])
    with pytest.raises(ValueError, match="outputs of more than 10 cells along axis 0, got 9"):
        translation_error(lambda images: images, images(), [1], margin=4)


def test_zero_outputs():
    assert translation_error(torch.zeros_like, images(), [1]).tolist() == [0]
    assert translation_error(lambda x: (x[:, 0, :1, 0] > 0).double() * 0, images(), [1]).tolist() == [0]
    silent = iter([torch.zeros(5, 1), *[torch.ones(5, 1)] * 4])
    assert translation_error(lambda images: next(silent), images(), [1]).tolist() == [math.inf]


# ---------------------------------------------------------------- permutations


@pytest.mark.parametrize("name", HOMOGENEOUS)
def test_relabel_keeps_data_and_batches(name):
    graph = GRAPHS[name]()
    graph.ndata["x"] = torch.arange(graph.num_nodes())
    graph.edata["w"] = torch.arange(graph.num_edges())
    order = node_permutation(graph, seed=3)
    other = relabel(graph, order)
    assert other.idtype == graph.idtype
    assert other.ndata["x"].tolist() == order.tolist()
    assert other.batch_num_nodes().tolist() == graph.batch_num_nodes().tolist()
    assert other.batch_num_edges().tolist() == graph.batch_num_edges().tolist()
    for before, after in zip(ends_by_feature(graph), ends_by_feature(other)):
        assert before == after
    back = relabel(other, order.argsort())
    assert ends_by_feature(back, ids=True) == ends_by_feature(graph, ids=True)


def ends_by_feature(graph, ids=False):
    """Sources and destinations, by the nodes' features or ids, in the order of the edges' marks."""
    src, dst = graph.formats(["coo", "csr", "csc"]).edges(order="eid")
    names = torch.arange(graph.num_nodes()) if ids else graph.ndata["x"]
    by_edge = graph.edata["w"].argsort()
    return [names[end.long()][by_edge].tolist() for end in (src, dst)]


def test_invalid_arguments():
    with pytest.raises(ValueError, match="one node set"):
        relabel(bipartite(), torch.arange(6))
    with pytest.raises(ValueError, match=r"permutation of 11 nodes, got shape \(11,\)"):
        relabel(random_graph(), torch.zeros(11, dtype=torch.int64))
    with pytest.raises(ValueError, match=r"expected 11 rows, one for each node, got shape \(9, 2\)"):
        permutation_error(GCNConv(2, 3), random_graph(), torch.ones(9, 2))
    with pytest.raises(ValueError, match=r"expected 11 outputs, one for each node, got shape \(2,\)"):
        permutation_error(lambda graph, x: x.sum(0), random_graph(), torch.ones(11, 2))


def test_permutations_are_within_graphs_and_differ():
    graph = pixel_batch(SIZE, 3)
    order = node_permutation(graph, 1).view(3, 42)
    assert torch.equal(order.sort(1).values, torch.arange(126).view(3, 42))
    assert not torch.equal(order[0], order[1] - 42)
    assert torch.equal(order.flatten(), node_permutation(graph, 1))
    assert not torch.equal(order.flatten(), node_permutation(graph, 2))


def test_every_layer_is_tested():
    kinds = {kind for kind in vars(conv).values() if isinstance(kind, type) and issubclass(kind, Conv)} - {Conv}
    built = {type(make(4, 8)) for make in LAYERS.values()}
    assert kinds <= built


@pytest.mark.parametrize("name", LAYERS)
def test_layers_are_permutation_equivariant(name):
    """Pixels and graph in another order: node outputs come in that order, pooled ones stay; flat ones do not."""
    net = Stack.build(LAYERS[name], 4, 8, 8, num_layers=2, norm=BatchNorm).double().eval()
    graph = pixel_batch(SIZE, 3)
    graph.edata["_TYPE"] = graph.edata["tap"]
    x = torch.randn(graph.num_nodes(), 4, dtype=torch.float64)

    def on_graph(model):
        if net.blocks[0].conv.takes_edge != "feature":
            return model
        return lambda graph, x: model(graph, x, nn.functional.one_hot(graph.edata["tap"], 9).double())

    assert permutation_error(on_graph(net), graph, x) < 1e-14
    for readout in (readout_mean, readout_max, readout_sum):
        pooled = Stack(net.blocks, readout=readout, head=nn.Linear(8, 10).double())
        assert permutation_error(on_graph(pooled), graph, x, per_node=False) < 1e-14
    flat = Stack(net.blocks, readout=readout_flat, head=nn.Linear(8 * 42, 10).double())
    assert permutation_error(on_graph(flat), graph, x, per_node=False) > 0.01


def test_permutation_of_superpixels():
    picture = np.random.default_rng(0).random((12, 12))
    graph = dgl.batch([superpixel_graph(picture, 20), superpixel_graph(picture.T, 12)])
    net = ECConv(1, 4, edge_feats=2).double()
    error = permutation_error(
        lambda graph, x: net(graph, x, graph.edata["offset"].double()), graph, graph.ndata["feat"].double()
    )
    assert error < 1e-14


def test_a_flat_readout_of_a_fixed_permutation_is_a_permutation_of_its_weights():
    """The same logits are possible with permuted weights."""
    graph, order = pixel_graph(SIZE), node_permutation(pixel_graph(SIZE), 5)
    net = Stack.build(partial(GridConv, kernel_size=3), 1, 8, 8, num_layers=2).double()
    head, x = nn.Linear(8 * 42, 10).double(), torch.randn(42, 1, dtype=torch.float64)
    logits = head(readout_flat(graph, net(graph, x)))
    other = nn.Linear(8 * 42, 10).double()
    with torch.no_grad():
        other.weight.copy_(head.weight.view(10, 42, 8)[:, order].flatten(1))
        other.bias.copy_(head.bias)
    changed = relabel(graph, order)
    torch.testing.assert_close(other(readout_flat(changed, net(changed, x[order]))), logits, rtol=1e-12, atol=1e-12)


# ---------------------------------------------------------------- deformations


@pytest.mark.parametrize("shape", [(12,), (10, 14), (6, 7, 8)])
@pytest.mark.parametrize("smoothness", [None, 1.0])
def test_displacements_have_the_given_gradient(shape, smoothness):
    field = random_displacement(shape, 0.3, np.random.default_rng(0), smoothness=smoothness)
    assert field.shape == (len(shape), *shape)
    np.testing.assert_allclose(field.mean(tuple(range(1, field.ndim))), 0, atol=1e-14)
    largest = 0.0
    for cell in np.ndindex(*shape):
        jacobian = np.empty((len(shape), len(shape)))
        for axis, n in enumerate(shape):
            low, high = list(cell), list(cell)
            low[axis], high[axis] = max(cell[axis] - 1, 0), min(cell[axis] + 1, n - 1)
            slope = (field[(slice(None), *high)] - field[(slice(None), *low)]) / (high[axis] - low[axis])
            jacobian[:, axis] = slope
        largest = max(largest, np.linalg.svd(jacobian, compute_uv=False)[0])
    assert largest == pytest.approx(0.3, rel=1e-12)


def test_smooth_fields_are_smoother():
    def roughness(smoothness):
        field = random_displacement((32, 32), 0.1, np.random.default_rng(0), smoothness=smoothness)
        return np.abs(np.diff(field, 2, axis=1)).max() / np.abs(field).max()

    assert roughness(8) < roughness(4) < roughness(1)


def test_warping_by_integer_displacements_is_a_shift():
    x = images(2, 3, (9, 8))
    move = np.zeros((2, 2, 9, 8))
    assert torch.equal(warp(x, move), x)
    move[:, 1] = 2.0
    torch.testing.assert_close(warp(x, move)[..., 2:], x[..., :-2])
    torch.testing.assert_close(warp(x, move)[..., :2], x[..., :1].expand(-1, -1, -1, 2), msg="the border is repeated")
    ramp = torch.arange(9.0).view(1, 1, 9, 1).expand(1, 1, 9, 8)
    move = np.full((1, 2, 9, 8), 0.25)
    torch.testing.assert_close(warp(ramp, move)[0, 0, 1:], ramp[0, 0, 1:] - 0.25)


def test_deformation_distance_of_a_constant_and_of_the_image():
    x = torch.rand(6, 1, 16, 16)
    sizes = [0.0, 0.05, 0.1, 0.2, 0.4]
    assert deformation_distance(lambda images: torch.ones(len(images), 3), x, sizes).tolist() == [0] * 5
    still, *moved = deformation_distance(lambda images: images, x, sizes).tolist()
    assert still == 0
    assert moved == sorted(moved)
    assert deformation_distance(lambda images: images, x, sizes).tolist() == [still, *moved], "the same seed"
    blurred = deformation_distance(lambda images: nn.functional.avg_pool2d(images, 8), x, sizes)
    assert (blurred[1:] < torch.tensor(moved)).all(), "averages are more stable"


def test_the_distance_is_proportional_to_small_deformations():
    """Lipschitz continuity to deformations, for a smooth image."""
    rows, columns = torch.meshgrid(torch.arange(32.0), torch.arange(32.0), indexing="ij")
    x = torch.exp(-((rows - 14) ** 2 + (columns - 17) ** 2) / 40).double().view(1, 1, 32, 32)
    once, twice = deformation_distance(lambda images: images, x, [0.02, 0.04])
    assert twice / once == pytest.approx(2, rel=0.1)


@pytest.mark.parametrize("sizes", [[1.0], [0.1, -0.1]])
def test_invalid_sizes_of_deformations(sizes):
    with pytest.raises(ValueError, match=r"from 0 to below 1, got \["):
        deformation_distance(lambda images: images, torch.rand(1, 1, 8, 8), sizes)


def test_axes_of_a_single_pixel_are_refused():
    with pytest.raises(ValueError, match=r"two pixels along each axis, got \(1, 8\)"):
        random_displacement((1, 8), 0.1, np.random.default_rng(0))


# ---------------------------------------------------------------- classes


def test_class_distances_against_a_loop():
    features, labels = torch.randn(12, 3, 2), torch.arange(12) % 3
    within, between = [], []
    for i in range(12):
        for j in range(i):
            distance = float(((features[i] - features[j]) ** 2).sum().sqrt())
            (within if labels[i] == labels[j] else between).append(distance)
    assert class_distances(features, labels) == pytest.approx(np.mean(within) / np.mean(between), rel=1e-6)


def test_separated_and_mixed_classes():
    labels = torch.arange(200) % 2
    noise = torch.randn(200, 4)
    assert class_distances(noise, labels) == pytest.approx(1, abs=0.02)
    assert class_distances(1e-3 * noise + labels.unsqueeze(1), labels) < 2e-3
    assert class_distances(7 * noise - 3, labels) == pytest.approx(class_distances(noise, labels), rel=1e-6)


@pytest.mark.parametrize("labels", [[0, 0, 0], [0, 1, 2]])
def test_labels_without_pairs_are_refused(labels):
    with pytest.raises(ValueError, match="pairs of one class and of two, got"):
        class_distances(torch.rand(3, 2), torch.tensor(labels))
    with pytest.raises(ValueError, match=r"expected shape \(3,\), got \(4,\)"):
        class_distances(torch.rand(3, 2), torch.zeros(4))
