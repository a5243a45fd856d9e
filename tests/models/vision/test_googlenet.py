"""GoogLeNet: the paper's Table 1 row by row, and the auxiliary heads."""

import pytest
import torch
from torch import fx
from torch.utils.flop_counter import FlopCounterMode

from gnnlib.models import GoogLeNet

# weights of our layers, and the column "params" of the paper's Table 1 in units of 1024
TABLE_1 = {
    "7 x 7": (9408, 2.7),
    "3 x 3": (114688, 112),
    "3a": (163328, 159),
    "3b": (388096, 380),
    "4a": (375552, 364),
    "4b": (448512, 437),
    "4c": (509440, 463),
    "4d": (604672, 580),
    "4e": (867328, 840),
    "5a": (1042432, 1072),
    "5b": (1442816, 1388),
    "linear": (1024000, 1000),
}


@pytest.fixture(scope="module")
def network():
    with torch.device("meta"):
        return GoogLeNet()


def weights(*layers):
    return sum(p.numel() for layer in layers for p in layer.parameters() if p.dim() > 1)


def test_weights_of_each_row(network):
    stages = [*network.early, *network.middle, *network.late]
    layers = [layer for layer in stages if weights(layer)]
    first, reduce, second, *rest = layers
    counted = [weights(first), weights(reduce, second), *map(weights, rest)]
    assert counted == [ours for ours, _ in TABLE_1.values()]


def test_where_the_printed_column_does_not_add_up():
    ours, printed = (sum(row[i] for row in TABLE_1.values()) for i in (0, 1))
    assert ours == 6990272
    assert printed == pytest.approx(6797.7)
    assert round(printed - ours / 1024, 1) == -28.7
    differences = {name: round(printed - ours / 1024, 1) for name, (ours, printed) in TABLE_1.items()}
    assert {name: by for name, by in differences.items() if abs(by) >= 1} == {
        "7 x 7": -6.5,
        "3b": 1.0,
        "4a": -2.8,
        "4b": -1.0,
        "4c": -34.5,
        "4d": -10.5,
        "4e": -7.0,
        "5a": 54.0,
        "5b": -21.0,
    }


def test_sizes_of_the_maps(network):
    x = torch.empty(1, 3, 224, 224, device="meta")
    sizes = []
    for layer in [*network.early, *network.middle, *network.late]:
        x = layer(x)
        sizes.append(tuple(x.shape[1:]))
    halved = [size for size, before in zip(sizes[1:], sizes) if size[1:] != before[1:]]
    assert sizes[0] == (64, 112, 112)
    assert halved[:4] == [(64, 56, 56), (192, 28, 28), (480, 14, 14), (832, 7, 7)]
    assert (512, 14, 14) in sizes
    assert (528, 14, 14) in sizes
    assert (1024, 7, 7) in sizes


def test_a_thousand_and_a_half_million_multiplications(network):
    """Section 1: "a computational budget of 1.5 billion multiply-adds at inference time"."""
    network = network.eval()
    with FlopCounterMode(display=False) as counter:
        network(torch.empty(1, 3, 224, 224, device="meta"))
    network.train()
    assert counter.get_total_flops() / 2 == pytest.approx(1.5e9, rel=0.1)


def test_auxiliary_heads_in_training_only(network):
    images = torch.empty(2, 3, 224, 224, device="meta")
    assert sum(p.numel() for p in network.parameters()) == 6_998_552 + 3_188_840 + 3_190_888
    assert [sum(p.numel() for p in head.parameters()) for head in network.heads] == [3_188_840, 3_190_888]
    assert [scores.shape for scores in network.train()(images)] == [(2, 1000)] * 3
    assert network.eval()(images).shape == (2, 1000)
    with torch.device("meta"):
        assert GoogLeNet(auxiliary=False).train()(images).shape == (2, 1000)
    network.train()


@pytest.mark.parametrize("training", [True, False])
def test_traced_in_either_mode(network, training):
    traced = fx.symbolic_trace(network.train(training))
    images = torch.empty(1, 3, 224, 224, device="meta")
    scores = traced(images)
    network.train()
    assert isinstance(scores, tuple) == training
    assert (len(scores) if training else scores.dim()) == (3 if training else 2)


@pytest.mark.slow
def test_each_head_reaches_only_what_lies_before_it():
    torch.manual_seed(0)
    network = GoogLeNet(10)
    main, on_4a, on_4d = network(torch.randn(1, 3, 224, 224))

    def reached(scores):
        inputs = [next(stage.parameters()) for stage in (network.early, network.middle, network.late)]
        return [g is not None for g in torch.autograd.grad(scores.sum(), inputs, retain_graph=True, allow_unused=True)]

    assert reached(on_4a) == [True, False, False]
    assert reached(on_4d) == [True, True, False]
    assert reached(main) == [True, True, True]


def test_main_weights_load_without_heads():
    torch.manual_seed(0)
    full, main = GoogLeNet(10).eval(), GoogLeNet(10, auxiliary=False).eval()
    keys = main.load_state_dict(full.state_dict(), strict=False)
    assert keys.missing_keys == []
    assert all(key.startswith("heads.") for key in keys.unexpected_keys)
    x = torch.randn(1, 3, 64, 64)
    assert torch.equal(main(x), full(x))
