"""Networks converted to graphs against the networks themselves: outputs, gradients, states, and what is refused."""

import copy
import pickle
import random
import re

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from gnnlib import GCNConv, models
from gnnlib._platform.dgl import dgl
from gnnlib.grid import connections, convert, from_torch, lattice, to_nodes, transposed_lattice
from gnnlib.images import pixel_batch, pixel_graph

pytestmark = pytest.mark.filterwarnings("ignore:Using padding='same'")  # PyTorch's, about speed
BACKENDS = ["graph", "dense"]


def results(net, images):
    """The outputs, and the gradients for the images and all parameters; dropout draws the same in all calls."""
    images = images.clone().requires_grad_()
    torch.manual_seed(0)
    y = net(images)
    outputs = list(y) if isinstance(y, tuple) else [y]
    loss = sum((out * torch.arange(out.numel()).to(out).cos().view(out.shape)).sum() for out in outputs)
    inputs = [images, *net.parameters()]
    gradients = torch.autograd.grad(loss, inputs, allow_unused=True, materialize_grads=True)
    return [value.detach() for value in (*outputs, *gradients)]


def assert_same(net, size, dtype=torch.float64, batch=2, backends=BACKENDS, training=True):
    net = net.to(dtype).train(training)
    images = torch.randn(batch, *size, dtype=dtype)
    converted = {backend: from_torch(net, size, backend=backend) for backend in backends}
    expected = results(net, images)
    for backend, same in converted.items():
        got = results(same, images)
        assert len(got) == len(expected)
        for one, other in zip(got, expected):
            error = (one - other).abs().max() / other.abs().max().clamp(min=1 if dtype == torch.float64 else 1e-2)
            assert one.shape == other.shape
            assert error < (1e-12 if dtype == torch.float64 else 1e-4), (backend, tuple(one.shape), float(error))
        states = same.state_dict(), net.state_dict()
        assert list(states[0]) == list(states[1])
        for one, other in zip(states[0].values(), states[1].values()):  # running statistics among them
            torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-9)


def drawn(rng, axes):
    """A Sequential of layers that fit one another, and the size of its images."""

    def layers(channels):
        def named(name):
            return getattr(nn, f"{name}{axes}d")

        def numbers(low, high):
            sizes = [rng.randint(low, high) for _ in range(axes)]
            return rng.choice([sizes[0], tuple(sizes)])

        groups, out = rng.choice([(1, 3), (channels, 2 * channels)])
        padding, bias = rng.choice(["same", "valid", numbers(0, 2), numbers(0, 2)]), rng.random() < 0.7
        return [
            lambda: named("Conv")(channels, out, numbers(1, 4), numbers(1, 2), padding, numbers(1, 2), groups, bias),
            lambda: named("Conv")(channels, out, numbers(1, 3), 1, padding, numbers(1, 2), groups, bias),
            lambda: named("ConvTranspose")(
                channels, out, numbers(1, 3), numbers(1, 3), numbers(0, 1), numbers(0, 1), groups, bias, numbers(1, 2)
            ),
            lambda: named("MaxPool")(numbers(1, 3), rng.choice([None, numbers(1, 3)]), rng.choice([0, 1]), 1),
            lambda: named("MaxPool")(2, numbers(1, 3), 1, numbers(1, 2), ceil_mode=True),
            lambda: named("AvgPool")(numbers(1, 3), None, 0, True, False),
            lambda: named("AvgPool")(
                numbers(2, 3), numbers(1, 2), 1, rng.choice([True, False]), rng.choice([True, False])
            ),
            lambda: named("AdaptiveAvgPool")(numbers(3, 5)),
            lambda: named("AdaptiveMaxPool")(numbers(3, 5)),
            *(lambda: named("BatchNorm")(channels), lambda: named("InstanceNorm")(channels)),
            *(lambda: nn.GroupNorm(1, channels), lambda: nn.LocalResponseNorm(3), lambda: nn.Dropout(0.3)),
            *(
                nn.ReLU,
                lambda: nn.Sequential(named("Conv")(channels, 2, 1), nn.ReLU(inplace=True)),
                nn.Tanh,
                lambda: nn.PReLU(channels),
                nn.GELU,
                nn.Identity,
            ),
        ]

    size = (rng.randint(1, 3), *(rng.randint(4, (12, 9, 6)[axes - 1]) for _ in range(axes)))
    x, net = torch.zeros(2, *size), []
    while len(net) < 6:
        try:
            layer = rng.choice(layers(x.shape[1]))()
            y = layer.eval()(x)
        except (RuntimeError, ValueError):  # PyTorch says that these do not fit
            continue
        if min(y.shape[2:]) > 2 and y[0].numel() < 3000 and y.isfinite().all():
            net, x = [*net, layer], y.detach().clone()
    return nn.Sequential(*net, nn.Flatten(), nn.Linear(x[0].numel(), 3)), size


@pytest.mark.parametrize("axes", [1, 2, 3])
@pytest.mark.parametrize("seed", [*range(4), *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(4, 16))])
def test_drawn_chains(axes, seed):
    torch.manual_seed(seed)
    net, size = drawn(random.Random(f"{axes} {seed}"), axes)
    assert_same(net, size, batch=1 + seed % 3, training=seed % 2 == 0)


@pytest.mark.parametrize("axes", [1, 2, 3])
@pytest.mark.parametrize("seed", range(20, 24))
def test_drawn_chains_in_single_precision(axes, seed):
    torch.manual_seed(seed)
    net, size = drawn(random.Random(f"{axes} {seed}"), axes)
    assert_same(net, size, torch.float32, training=False)


class Functions(nn.Module):
    """Everything that a forward pass may do without a module."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(2, 4, 3, padding=1)
        self.kernel = nn.Parameter(torch.randn(4, 2, 3, 3))
        self.register_buffer("mask", torch.rand(4, 2, 1, 1) > 0.3, persistent=False)
        self.unused = nn.Linear(2, 2)
        self.root = nn.Linear(12, 3)

    def forward(self, x):
        a = self.conv(x)
        b = F.conv2d(input=x, weight=self.kernel * self.mask, stride=(1, 1), padding=1)
        a += F.elu(self.conv(x))  # the same layer again
        y = torch.cat([a, b.tanh_(), F.avg_pool2d(a + b, 3, stride=1, padding=1)], dim=1)
        y = F.dropout(y, 0.4, training=self.training) * torch.tensor([0.5])
        y = F.max_pool2d(y, kernel_size=2, padding=1, ceil_mode=True)
        y = F.adaptive_max_pool2d(y, (None, 3)) if self.training else F.max_pool2d(y, (1, 2))
        return self.root(F.avg_pool2d(y, kernel_size=y.size()[2:]).flatten(1)), y.mean((2, 3))


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(("dtype", "size"), [(torch.float64, (2, 8, 7)), (torch.float32, (2, 9, 6))])
def test_functions_and_branches(training, dtype, size):
    torch.manual_seed(0)
    assert_same(Functions(), size, dtype, training=training)


NETWORKS = {
    "LeNet5": (models.LeNet5, (1, 32, 32)),
    "SmallCNN": (models.SmallCNN, (1, 28, 28)),
    "AllConvolutional": (models.AllConvolutional, (3, 32, 32)),
    "VGG": (lambda: models.VGG([[8], [16, 16]], 10, 8, 32), (3, 8, 8)),
    "Inception": (lambda: models.Inception(8, 4, 3, 5, 2, 3, 4), (8, 9, 8)),
    "StackedInception": (lambda: models.StackedInception(8, 4), (8, 7, 7)),
    "AsymmetricInception": (lambda: models.AsymmetricInception(8, 6), (8, 7, 7)),
    "ExpandedInception": (lambda: models.ExpandedInception(4), (4, 3, 3)),
    "ResidualInception": (lambda: models.ResidualInception(16), (16, 7, 7)),
    "Bottleneck": (lambda: models.Bottleneck(8, 4, stride=2, stride_first=True), (8, 7, 8)),
    "ResNet": (lambda: models.ResNet([1, 1, 1, 1], 10), (3, 33, 33)),
    "PartialConv2d": (lambda: models.PartialConv2d(3, [(0, 1), (2,)], 3), (3, 6, 5)),
}


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.slow
def test_classic_networks(name):
    torch.manual_seed(0)
    make, size = NETWORKS[name]
    assert_same(make(), size)


def narrow(net):
    """For images of 67 x 67."""
    net.fc6, net.fc7, net.fc8 = nn.Linear(256, 16), nn.Linear(16, 16), nn.Linear(16, 10)
    return net


BIG = {
    "AlexNet": (lambda: narrow(models.AlexNet()), (3, 67, 67)),
    "AlexNet without groups": (lambda: narrow(models.AlexNet(groups=1)), (3, 67, 67)),
    "VGG16": (lambda: models.VGG16(10, input_size=32, hidden=64), (3, 32, 32)),
    "GoogLeNet": (lambda: models.GoogLeNet(10), (3, 224, 224)),  # three outputs
    "InceptionV3": (lambda: models.InceptionV3(10), (3, 75, 75)),
    "ResNet50": (lambda: models.ResNet50(10), (3, 32, 32)),
}


@pytest.mark.parametrize("name", BIG)
@pytest.mark.slow
def test_large_networks(name):
    torch.manual_seed(0)
    make, size = BIG[name]
    assert_same(make(), size, batch=1, training=name == "GoogLeNet")


def test_all_networks_of_the_library_are_tested():
    layers = {"RadialBasis", "ScaledTanh", "Subsampling"}  # of LeNet5
    on_graphs = {"APPNPNet", "DAGNNNet", "DGI", "GAE", "GCNII", "GfNN", "JKNet", "RGCN", "SGC", "SIGN", "VGAE"}
    classes = {name for name in models.__all__ if isinstance(getattr(models, name), type)}
    assert classes <= layers | on_graphs | set(NETWORKS) | set(BIG)


@pytest.fixture
def small():
    """A network with all kinds of state, and images for it."""
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nn.Sequential(nn.ReLU(), nn.MaxPool2d(2)),
        nn.Dropout(0.5),
        nn.Flatten(),
        nn.Linear(48, 3),
    ).double()
    return net, torch.randn(5, 2, 6, 8, dtype=torch.float64)


def test_graph_passes_messages_and_dense_does_not(small, monkeypatch):
    net, images = small
    calls = []
    monkeypatch.setattr(convert, "to_nodes", lambda *args: calls.append(args) or to_nodes(*args))
    same = from_torch(net, (2, 6, 8))
    assert same.backend == "graph"
    same(images)
    assert len(calls) == 2
    same.backend = "dense"
    same(images)
    assert (len(calls), same.backend) == (2, "dense")
    with pytest.raises(ValueError, match="expected 'graph' or 'dense', got 'sparse'"):
        same.backend = "sparse"


def test_the_original_stays_as_it_is(small):
    net, images = small
    before, same = copy.deepcopy(net.state_dict()), from_torch(net, (2, 6, 8))
    same(images).sum().backward()
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())
    assert net.training
    assert all(p.grad is None for p in net.parameters())
    assert all(p.grad is not None for p in same.parameters())


def test_training_and_evaluation_follow_the_switch(small):
    net, images = small
    net[3].p = 0.0
    net.eval()
    same = from_torch(net, (2, 6, 8))
    assert not same.training
    for mode in (False, True, False):
        torch.testing.assert_close(same.train(mode)(images), net.train(mode)(images), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(same.get_buffer("1.running_mean"), net[1].running_mean)


def test_state_dicts_load_both_ways(small):
    net, images = small
    net, other = net.eval(), copy.deepcopy(net).eval()
    same = from_torch(net, (2, 6, 8))
    with torch.no_grad():
        for value in other.parameters():
            value.normal_()
    same.load_state_dict(other.state_dict())
    torch.testing.assert_close(same(images), other(images), rtol=1e-12, atol=1e-12)
    net.load_state_dict(same.state_dict())
    assert torch.equal(net(images), other(images))


@pytest.mark.parametrize("again", [copy.deepcopy, lambda net: pickle.loads(pickle.dumps(net))])
def test_copies(small, again):
    net, images = small
    same = from_torch(net.eval(), (2, 6, 8))
    twin = again(same)
    assert torch.equal(twin(images), same(images))
    with torch.no_grad():
        twin.get_parameter("0.weight").zero_()
    assert not torch.equal(twin(images), same(images))
    assert twin.float()(images.float()).dtype == torch.float32
    assert torch.equal(same(images), from_torch(net, (2, 6, 8))(images))


def test_on_batched_graphs(small):
    net, images = small
    net.eval()
    for backend in BACKENDS:
        same = from_torch(net, (2, 6, 8), backend)
        x = images.flatten(2).mT.flatten(0, 1)  # (B N, C)
        windows = lattice((6, 8), 2, stride=2), transposed_lattice((6, 8), 2), pixel_graph((6, 8))
        for graph in (pixel_batch((6, 8), 5), *(dgl.batch([one] * 5) for one in windows)):
            torch.testing.assert_close(same(graph, x), net(images), rtol=1e-12, atol=1e-12)
        one = pixel_graph((6, 8))
        torch.testing.assert_close(same(one, x[:48]), net(images[:1]), rtol=1e-12, atol=1e-12)


def test_graphs_and_images_that_do_not_fit(small):
    net, images = small
    same = from_torch(net, (2, 6, 8))
    x = torch.ones(96, 2, dtype=torch.float64)
    with pytest.raises(ValueError, match=r"expected graphs of 48 nodes, \(6, 8\), got \[49\]"):
        same(pixel_batch((7, 7), 2), x)
    with pytest.raises(ValueError, match=r"expected x of shape \(96, 2\), got \(95, 2\)"):
        same(pixel_batch((6, 8), 2), x[1:])
    with pytest.raises(ValueError, match=r"expected x of shape \(96, 2\), got None"):
        same(pixel_batch((6, 8), 2))
    with pytest.raises(ValueError, match=r"expected images \(B, 2, \*size\), got \(2, 6, 8\)"):
        same(images[0])
    with pytest.raises(ValueError, match=r"5 \(Linear\)"):
        same(images[..., :6])


def test_images_of_another_size():
    net = nn.Sequential(nn.Conv2d(1, 3, 3), nn.MaxPool2d(2), nn.AdaptiveAvgPool2d(2), nn.Flatten()).double()
    same = from_torch(net, (1, 28, 28))
    for size in [(28, 28), (64, 40), (6, 7)]:
        images = torch.randn(2, 1, *size, dtype=torch.float64)
        torch.testing.assert_close(same(images), net(images), rtol=1e-12, atol=1e-12)


def test_normalisation_gets_gradients_in_the_usual_order():
    """PyTorch's instance_norm goes wrong on others, and so does batch_norm of one image."""
    for norm in (nn.BatchNorm2d(3), nn.InstanceNorm2d(3)):
        assert_same(nn.Sequential(nn.Conv2d(2, 3, 3), norm, nn.Conv2d(3, 4, 3)), (2, 7, 8), batch=1)


def test_connections_of_lenet_as_published():
    counts = connections(from_torch(models.LeNet5(), (1, 32, 32)))
    published = {"c1": 122304, "s2": 5880, "c3": 151600, "s4": 2000, "c5": 48120, "f6": 10164}
    assert {name: counts[name] for name in published} == published
    assert counts[""] == 340908  # LeCun et al. 1998, section II.B


def test_connections_count_borders_groups_and_steps():
    net = nn.Sequential(
        nn.Conv1d(2, 4, 3, padding=1, groups=2, bias=False),  # 5 + 4 + 4 edges to 5 cells
        nn.ConvTranspose1d(4, 1, 2, stride=2),
        nn.Sequential(nn.MaxPool1d(2), nn.Flatten(), nn.Linear(5, 2)),
    )
    counts = connections(from_torch(net, (2, 5)))
    assert counts == {"": 13 * 4 + 10 * 4 + 10 + 10 + 12, "0": 52, "1": 50, "2": 22, "2.0": 10, "2.2": 12}


class Flow(nn.Module):
    def forward(self, x):
        return x if x.sum() > 0 else -x


class Enlarge(nn.Module):
    def forward(self, x):
        return F.interpolate(x, scale_factor=2.0)


class Two(nn.Module):
    def forward(self, x, y):
        return x + y


class Plain(nn.Module):
    """A network of a function."""

    def __init__(self, function):
        super().__init__()
        self.function, self.conv = function, nn.Conv2d(1, 2, 3, padding=1)

    def forward(self, x):
        return self.function(self.conv, x)


def assigned(conv, x):
    y = conv(x)
    y[:, 0] = 0
    return y


UNTRACED = {
    "length": (lambda conv, x: conv(x) * len(x), "operations on tensors alone"),
    "range": (lambda conv, x: sum(conv(x) for _ in range(x.shape[0])), "operations on tensors alone"),
    "number": (lambda conv, x: conv(x) * float(x.mean()), "operations on tensors alone"),
    "numpy": (lambda conv, x: torch.from_numpy(x.numpy()), "operations on tensors alone"),
    "assignment": (assigned, "operations on tensors alone"),
    "iteration": (lambda conv, x: torch.stack([conv(y[None]) for y in x]), "no control flow"),
    "condition": (lambda conv, x: conv(x) if x.max() > 0 else x, "no control flow"),
    "device": (lambda conv, x: conv(x).to("cuda" if x.is_cuda else "cpu"), "no control flow"),
    "error of its own": (lambda conv, x: conv.missing(x), "AttributeError: 'Conv2d' object has no attribute"),
}
WORDS = re.compile("Proxy|symbolic|trace|fx|iterat|interpreted")


@pytest.mark.parametrize("case", UNTRACED)
def test_a_network_that_cannot_be_traced_is_told_its_line_in_no_words_of_fx(case):
    function, message = UNTRACED[case]
    with pytest.raises(ValueError, match=r"from_torch: Plain: expected .*, got `.*` in line \d+ of ") as error:
        from_torch(Plain(function), (1, 8, 8))
    assert message in str(error.value)
    assert "test_from_torch.py" in str(error.value)
    assert not WORDS.search(str(error.value).split(", got `")[0])


def test_other_modules_are_refused():
    with pytest.raises(TypeError, match=r"from_torch: expected the module before torch\.jit, got a"):
        from_torch(torch.jit.script(nn.Conv2d(1, 2, 3)), (1, 8, 8))
    with pytest.raises(ValueError, match=r"GCNConv: expected operations on tensors alone, got a call of a library"):
        from_torch(GCNConv(1, 2), (1, 8, 8))


BAD = [
    (
        nn.Sequential(
            nn.Conv2d(1, 1, 3, padding=1, padding_mode="reflect"),
            nn.Sequential(nn.Upsample(scale_factor=2), nn.ReLU(), Enlarge()),
            nn.AvgPool2d(2, divisor_override=3),
            nn.MaxPool2d(2, return_indices=True),
            nn.LPPool2d(2, 2),
        ),
        r"expected convolutions, pooling, .*, got 0 \(Conv2d\): pad, 1.0 \(Upsample\), 1.2 \(Enlarge\): interpolate, "
        r"2 \(AvgPool2d\): divisor_override=3, 3 \(MaxPool2d\): max_pool2d_with_indices, 4 \(LPPool2d\): lp_pool2d$",
    ),
    (nn.Sequential(nn.MultiheadAttention(4, 2)), "from_torch: expected convolutions|0 .MultiheadAttention.: expected"),
    (nn.Sequential(nn.Flatten(), nn.LSTM(64, 2)), r"1 \(LSTM\)"),
    (Enlarge(), "got Enlarge: interpolate"),
    (
        nn.Sequential(nn.ReLU(), nn.Sequential(Flow())),
        r"from_torch: 1.0 \(Flow\): expected no control flow .*, got `return x if x.sum\(\) > 0 else -x` in line",
    ),
    (
        Flow(),
        "from_torch: Flow: expected no control flow that depends on values, got `return x if .*test_from_torch.py",
    ),
    (Two(), r"expected a network with one input, got \['x', 'y'\]"),
    (nn.Sequential(nn.ReLU(), nn.Conv2d(1, 1, 9)), r"1 \(Conv2d\): .*\(8, 8\), got one of \(9, 9\)"),
    (nn.Sequential(nn.Conv2d(3, 1, 3)), r"0 \(Conv2d\): expected images of shape \(B, 3, H, W\), got \(2, 1, 8, 8\)"),
    (nn.Sequential(nn.Conv1d(1, 1, 3)), r"0 \(Conv1d\): expected images of shape \(B, 1, H\), got \(2, 1, 8, 8\)"),
    (
        nn.Sequential(nn.Flatten(), nn.Linear(3, 3)),
        r"1 \(Linear\): expected inputs of shapes that fit, got \(2, 64\) and \(3, 3\)",
    ),
]


@pytest.mark.parametrize(("net", "message"), BAD)
def test_unsupported_modules_raise(net, message):
    with pytest.raises(ValueError, match=message):
        from_torch(net, (1, 8, 8))
