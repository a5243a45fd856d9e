"""Workloads on grids and in plain PyTorch: networks through `from_torch`, and a convolution by messages."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from gnnlib.benchmarks.speed.measure import Case, Step
from gnnlib.benchmarks.speed.single import CLASSES, training
from gnnlib.grid import GridConv, from_torch, lattice, to_nodes
from gnnlib.models import VGG16, LeNet5, SmallCNN

NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, int, int], int]] = {
    "lenet": (LeNet5, (1, 32, 32), 64),
    "cnn": (SmallCNN, (1, 28, 28), 32),
    "vgg": (partial(VGG16, CLASSES, input_size=32, hidden=512), (3, 32, 32), 8),
}
"""The network, an image's shape, images in a batch."""


def network_case(name: str) -> Case:
    """A training step of a network through `from_torch` with the dense backend, and of the network itself."""
    torch.manual_seed(0)
    make, size, num_images = NETWORKS[name]
    plain = make().eval()  # without dropout, whose masks would differ
    nets = {"gnnlib": from_torch(plain, size, backend="dense"), "torch": plain}
    images, target = torch.randn(num_images, *size), torch.randint(0, CLASSES, (num_images,))
    runs: dict[str, Callable[[], Tensor]] = {way: partial(net, images) for way, net in nets.items()}
    return Case({way: training(nets[way], run, target) for way, run in runs.items()}, runs)


def conv_case(train: bool, num_images: int = 64, side: int = 28, channels: int = 16) -> Case:
    """A 3 x 3 convolution as messages on a lattice, and PyTorch's; forward, or with all gradients."""
    torch.manual_seed(0)
    plain = nn.Conv2d(channels, channels, 3, padding=1)
    layer = GridConv(channels, channels, 3, dense=False)
    layer.load_state_dict(plain.state_dict())
    graph = lattice((side, side), 3, padding=1)
    images = torch.randn(num_images, channels, side, side)
    x = to_nodes(images).contiguous().requires_grad_(train)
    images.requires_grad_(train)
    runs: dict[str, Callable[[], Tensor]] = {"gnnlib": lambda: layer(graph, x), "torch": lambda: plain(images)}
    error = torch.randn_like(images)
    errors = {"gnnlib": to_nodes(error).contiguous(), "torch": error}
    inputs = {"gnnlib": [x, *layer.parameters()], "torch": [images, *plain.parameters()]}

    def step(way: str) -> object:
        return torch.autograd.grad(runs[way](), inputs[way], errors[way])

    steps: dict[str, Step] = {way: partial(step, way) if train else torch.no_grad()(run) for way, run in runs.items()}
    return Case(steps, {"gnnlib": runs["gnnlib"], "torch": lambda: to_nodes(plain(images))})
