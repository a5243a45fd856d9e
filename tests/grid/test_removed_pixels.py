"""Networks on grids from which pixels were removed: against message passing on the graph, and against whole images."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from gnnlib._platform.dgl import dgl
from gnnlib.grid import GridConv, from_torch
from gnnlib.grid.masked import Masked, run
from gnnlib.images import pixel_batch, pixel_graph

SIZE = (7, 6)
MASKS = torch.from_numpy(np.random.default_rng(0).random((3, *SIZE)) < 0.6)


def cut(masks=MASKS):
    """A batch of grids without the pixels outside the masks."""
    return dgl.batch([pixel_graph(SIZE, mask=mask.numpy()) for mask in masks])


def features(images, masks=MASKS):
    return images.movedim(1, -1)[masks]


def zeroed(images, masks=MASKS):
    return images * masks.unsqueeze(1)


class Branches(nn.Module):
    """Skips, concatenation, a gate of the whole image, and transposed convolution."""

    def __init__(self):
        super().__init__()
        self.first, self.down = nn.Conv2d(2, 4, 3, padding=1), nn.Conv2d(4, 4, 3, stride=2, padding=1)
        self.skip, self.up = nn.Conv2d(4, 4, 1, stride=2), nn.ConvTranspose2d(4, 4, 3, stride=2, padding=1)
        self.gate, self.last = nn.Linear(4, 4), nn.Conv2d(8, 3, 1)

    def forward(self, x):
        x = F.relu(self.first(x))
        y = self.down(x) + self.skip(x)
        y = y * torch.sigmoid(self.gate(y.mean((2, 3)))).unsqueeze(-1).unsqueeze(-1)
        up = self.up(y)
        return self.last(torch.cat([x[:, :, :, :5], up[:, :, :, :5]], 1)), y.flatten(2).amax(-1)


NETWORKS = {
    "pooling": lambda: nn.Sequential(
        nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 5, 2, stride=2),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(5, 3), nn.LogSoftmax(1),
    ),
    "flat": lambda: nn.Sequential(nn.AvgPool2d(3, 2, 1), nn.Tanh(), nn.Flatten(), nn.Linear(24, 6), nn.BatchNorm1d(6)),
    "norms": lambda: nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1), nn.GroupNorm(2, 4), nn.PReLU(4), nn.InstanceNorm2d(4), nn.Softmax2d(),
        nn.LocalResponseNorm(2), nn.AvgPool2d(2, count_include_pad=False), nn.Dropout(0.0),
    ),
    "branches": Branches,
}  # fmt: skip


@pytest.fixture(params=NETWORKS)
def network(request):
    torch.manual_seed(1)
    return NETWORKS[request.param]()


def tensors(outputs):
    return outputs if isinstance(outputs, tuple) else (outputs,)


@pytest.mark.parametrize("backend", ["graph", "dense"])
def test_a_mask_of_everything_changes_nothing(network, backend):
    net, images = from_torch(network, (2, *SIZE), backend), torch.randn(3, 2, *SIZE)
    whole = run(net.programs[True], net.root, Masked(images, torch.ones(3, 1, *SIZE, dtype=torch.bool)), net._dense)
    for ours, expected in zip(tensors(whole), tensors(network(images)), strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("training", [False, True])
def test_removed_pixels_do_not_matter_and_neither_does_the_backend(network, training):
    images, noise = torch.randn(3, 2, *SIZE), 100 * torch.randn(3, 2, *SIZE)
    net = from_torch(network.train(training), (2, *SIZE))
    outputs = tensors(net(cut(), features(images)))
    net.backend = "dense"
    noisy = torch.where(MASKS.unsqueeze(1), images, noise)
    for ours, other in zip(outputs, tensors(net(cut(), features(noisy))), strict=True):
        torch.testing.assert_close(ours, other, rtol=1e-4, atol=1e-5)


def test_a_batch_equals_its_graphs_one_by_one(network):
    images, net = torch.randn(3, 2, *SIZE), from_torch(network.eval(), (2, *SIZE))
    outputs = tensors(net(cut(), features(images)))
    for i in range(3):
        single = tensors(net(cut(MASKS[i : i + 1]), features(images[i : i + 1], MASKS[i : i + 1])))
        for ours, other in zip(outputs, single, strict=True):
            torch.testing.assert_close(ours[i : i + 1], other, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("padding", [1, "same"])
def test_layers_that_keep_the_grid_are_those_of_the_graph(padding):
    """Convolutions and maxima on the graph itself, node by node."""
    first, second = nn.Conv2d(2, 4, 3, padding=padding), nn.Conv2d(4, 3, 3, padding=padding)
    images, graph = torch.randn(3, 2, *SIZE), cut()
    layers = [GridConv(2, 4, 3), GridConv(4, 3, 3)]
    for layer, conv in zip(layers, (first, second)):
        layer.load_state_dict(conv.state_dict())
    y = torch.tanh(layers[0](graph, features(images)) - 1)
    graph.ndata["y"] = y
    graph.update_all(dgl.function.copy_u("y", "m"), dgl.function.max("m", "largest"))
    expected = layers[1](graph, graph.ndata["largest"])
    shifted = nn.Sequential(first, nn.MaxPool2d(3, 1, 1), second)
    with torch.no_grad():
        first.bias -= 1
    shifted.insert(1, nn.Tanh())
    net = from_torch(shifted, (2, *SIZE))
    output = net(graph, features(images))
    torch.testing.assert_close(features(output), expected, rtol=1e-4, atol=1e-5)
    assert not output[~MASKS.unsqueeze(1).expand_as(output)].any()


def test_convolutions_without_bias_are_those_of_zeroed_images():
    images = torch.randn(3, 2, *SIZE)
    network = nn.Sequential(nn.Conv2d(2, 4, 3, stride=2, bias=False), nn.ReLU(), nn.Conv2d(4, 3, 2, bias=False))
    output = from_torch(network, (2, *SIZE))(cut(), features(images))
    torch.testing.assert_close(output, network(zeroed(images)), rtol=1e-4, atol=1e-5)


def test_pooling_counts_the_pixels_that_remain():
    images = torch.randn(3, 2, *SIZE)
    graph, x = cut(), features(images)
    for pool, reduce in ((nn.MaxPool2d(2), torch.amax), (nn.AvgPool2d(2), torch.mean)):
        output = from_torch(pool, (2, *SIZE))(graph, x)
        for b, i, j in np.ndindex(3, 3, 3):
            window = images[b, :, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2]
            present = MASKS[b, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2]
            expected = reduce(window[:, present], 1) if present.any() else torch.zeros(2)
            torch.testing.assert_close(output[b, :, i, j], expected)
    padded = from_torch(nn.AvgPool2d(2, 2, padding=1), (2, *SIZE))(graph, x)
    expected = images[0, :, 0, 0] / 4 * MASKS[0, 0, 0]  # three cells of padding count
    torch.testing.assert_close(padded[0, :, 0, 0], expected)


def test_norms_are_those_of_the_pixels_that_remain():
    images = torch.randn(3, 2, *SIZE)
    x, norm = features(images), nn.BatchNorm1d(2)
    net = from_torch(nn.Sequential(nn.BatchNorm2d(2)), (2, *SIZE))
    torch.testing.assert_close(features(net(cut(), x)), norm(x))
    torch.testing.assert_close([*net.buffers()], [*norm.buffers()])
    y = from_torch(nn.Sequential(nn.InstanceNorm2d(2)), (2, *SIZE))(cut(), x)
    for i in range(3):
        rows = images[i][:, MASKS[i]]
        torch.testing.assert_close(y[i][:, MASKS[i]], F.instance_norm(rows[None])[0])


class Statistics(nn.Module):
    def forward(self, x):
        y = x.movedim(1, -1)
        return x.sum((2, 3)), x.mean((2, 3)), x.amax((2, 3)), x.amin((2, 3)), F.softmax(y.flatten(1, 2), 1)


def test_reductions_are_those_of_the_pixels_that_remain():
    images = torch.randn(3, 2, *SIZE)
    total, mean, high, low, share = from_torch(Statistics(), (2, *SIZE))(cut(), features(images))
    for i in range(3):
        rows = images[i][:, MASKS[i]]
        for ours, expected in ((total, rows.sum(1)), (mean, rows.mean(1)), (high, rows.amax(1)), (low, rows.amin(1))):
            torch.testing.assert_close(ours[i], expected)
        torch.testing.assert_close(share[i][MASKS[i].flatten()], rows.softmax(1).T)


def test_gradients_reach_the_remaining_pixels_alone(network):
    net, x = from_torch(network.train(), (2, *SIZE)), torch.randn(int(MASKS.sum()), 2, requires_grad=True)
    sum(output.square().sum() for output in tensors(net(cut(), x))).backward()
    for tensor in (x, *net.parameters()):
        assert tensor.grad is None or tensor.grad.isfinite().all()
    assert x.grad.abs().sum() > 0


def test_one_graph_may_have_lost_nothing_or_everything_but_one_pixel():
    masks = MASKS.clone()
    masks[0], masks[1] = True, False
    masks[1, 3, 3] = True
    network, images = NETWORKS["pooling"]().eval(), torch.randn(3, 2, *SIZE)
    output = from_torch(network, (2, *SIZE))(cut(masks), features(images, masks))
    torch.testing.assert_close(output[:1], network(images[:1]), rtol=1e-4, atol=1e-5)
    assert output.isfinite().all()


def test_nodes_removed_by_dgl():
    graph, gone = pixel_batch((4, 4), 2), torch.tensor([3, 17, 18])
    rest = dgl.remove_nodes(graph, gone)
    rest.set_batch_num_nodes(torch.tensor([15, 14]))
    images = torch.randn(2, 1, 4, 4)
    x = images.flatten().unsqueeze(1)[[i for i in range(32) if i not in gone]]
    output = from_torch(nn.MaxPool2d(4), (1, 4, 4))(rest, x).flatten()
    first, second = images.flatten(1)
    assert output.tolist() == [
        max(first[i] for i in range(16) if i != 3), max(second[i] for i in range(16) if i not in (1, 2)),
    ]  # fmt: skip


def test_errors():
    net, graph = from_torch(nn.MaxPool2d(2), (2, *SIZE)), cut()
    x = torch.zeros(graph.num_nodes(), 2)
    lost = graph.clone()
    lost.set_batch_num_nodes(torch.tensor([graph.num_nodes()]))
    with pytest.raises(ValueError, match=r"graphs of 42 nodes, \(7, 6\), got \[\d+\]; .*graph.set_batch_num_nodes"):
        net(lost, x)
    twice = dgl.batch([pixel_graph(SIZE, mask=np.arange(42).reshape(SIZE) == 7)] * 2)
    twice.set_batch_num_nodes(torch.tensor([2]))
    with pytest.raises(ValueError, match=r"42 nodes, \(7, 6\) or fewer, at different positions, got some at one; "):
        net(twice, torch.zeros(2, 2))
    graph.ndata["pos"] /= 6
    with pytest.raises(ValueError, match=r"in whole pixels of \(7, 6\), got 0 to 1; if it was scaled, restore it"):
        net(graph, x)
    del graph.ndata["pos"]
    with pytest.raises(
        ValueError, match=r'expected graphs of 42 nodes, \(7, 6\), or ndata\["pos"\] \(N, 2\) .*no positions'
    ):
        net(graph, x)
    for part in (nn.LayerNorm([2, 7, 6]), nn.InstanceNorm2d(2, track_running_stats=True)):
        with pytest.raises(ValueError, match=r"1: expected .* on a grid from which pixels were removed, got"):
            from_torch(nn.Sequential(nn.ReLU(), part), (2, *SIZE))(cut(), x)
