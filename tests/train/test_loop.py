"""The training loop: best weights, early stopping, schedulers, clipping, precision; prediction and weight decay."""

import math

import pytest
import torch
from torch import nn

from gnnlib import GATConv, GCNConv, GINConv, LayerNorm, SAGEConv, Stack, aggregate
from gnnlib._platform.dgl import dgl
from gnnlib.nn.reparametrize import share_parameters_
from gnnlib.train import loop
from gnnlib.train.loop import Batch, decay_groups, fit, matmul_precision, outputs_and_targets


class Line(nn.Module):
    """y = w x: one weight, so that every step can be followed by hand."""

    def __init__(self, weight=0.0):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(weight))
        self.modes = []

    def forward(self, graph, x, edge=None):
        self.modes.append((self.training, torch.is_grad_enabled()))
        y = self.weight * x[:, 0]
        return y if edge is None else y + edge.sum()


class Counter:
    """A scheduler that only counts."""

    steps = 0

    def step(self):
        self.steps += 1


GRAPH = dgl.graph(([0, 1], [1, 2]), num_nodes=3)


def batch(*targets, **options):
    return Batch(GRAPH, torch.ones(len(targets), 1), torch.tensor(targets), **options)


def minus(outputs, targets):
    """Its gradient is -1 whatever the weight is: each step of rate 1 adds 1."""
    return -outputs.mean() + 0 * targets.sum()


def train(model, epochs, scores=None, **options):
    """Fits with the given score for each epoch; the weight after epoch n is n."""
    if scores is not None:
        values = iter(scores)
        options |= {"measure": lambda: {"validation": next(values)}, "score": lambda record: record["validation"]}
    options = {"scheduler": None} | options
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    return fit(model, lambda: [batch(0.0)], minus, optimizer, epochs, **options)


def test_without_a_score_the_last_weights_are_kept():
    model, seen = Line(), []
    records = train(model, 3, on_epoch=seen.append)
    assert records == [{"epoch": 1, "loss": 0.0}, {"epoch": 2, "loss": -1.0}, {"epoch": 3, "loss": -2.0}]
    assert seen == records
    assert model.weight.item() == 3


@pytest.mark.parametrize(
    ("scores", "best"),
    [([1, 5, 3, 2], 2), ([1, 2, 3, 4], 4), ([4, 3, 2, 1], 1), ([2, 7, 7, 7], 2), ([-9, -7, -8, -8], 2)],
)
def test_the_weights_of_the_best_epoch_are_restored(scores, best):
    model = Line()
    records = train(model, 4, scores)
    assert model.weight.item() == best
    assert [record["validation"] for record in records] == scores


@pytest.mark.parametrize(
    ("scores", "best"),
    [([(5, -2), (5, -1), (5, -3)], 2), ([(4, 0), (5, -9), (5, -9)], 2), ([(5, -1), (4, 0), (5, 0)], 3)],
)
def test_tuples_break_ties(scores, best):
    model = Line()
    train(model, 3, scores)
    assert model.weight.item() == best


@pytest.mark.parametrize(
    ("patience", "epochs"),
    [(1, 3), (2, 4), (3, 8), (None, 8)],
)
def test_patience(patience, epochs):
    """Better in epochs 1, 2, and 5."""
    model = Line()
    records = train(model, 8, [1, 2, 0, 2, 3, 1, 1, 1], patience=patience)
    assert len(records) == epochs
    assert model.weight.item() == (5 if epochs == 8 else 2)


def test_buffers_belong_to_the_best_weights():
    model = nn.Sequential()
    model.append(Line())
    model[0].register_buffer("steps", torch.tensor(0))
    model.forward = lambda graph, x, edge=None: (model[0].steps.add_(1), model[0](graph, x))[1]
    train(model, 3, [1, 2, 0])
    assert model[0].steps.item() == 2


def test_the_scheduler_steps_once_an_epoch_or_once_a_batch():
    scheduler = Counter()
    model = Line()
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    fit(model, lambda: [batch(0.0)] * 5, minus, optimizer, 3, scheduler=scheduler)
    assert scheduler.steps == 3
    fit(model, lambda: [batch(0.0)] * 5, minus, optimizer, 3, scheduler=scheduler, step_per_batch=True)
    assert scheduler.steps == 3 + 3 * 5
    model = Line()
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    halving = torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.5)
    fit(model, lambda: [batch(0.0)] * 2, minus, optimizer, 3, scheduler=halving)
    assert model.weight.item() == 2 * (1 + 0.5 + 0.25)


def test_the_loss_of_an_epoch_is_the_mean_over_targets():
    model = Line(weight=1.0)
    batches = [batch(3.0), batch(1.0, 2.0, 4.0)]  # squares of differences: 4; 0, 1, 9
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    (record,) = fit(model, lambda: batches, nn.functional.mse_loss, optimizer, 1)
    assert record["loss"] == pytest.approx((4 + 0 + 1 + 9) / 4)


def test_batches_is_called_once_per_epoch():
    calls = []

    def batches():
        calls.append(len(calls))
        yield batch(0.0)

    model = Line()
    fit(model, batches, minus, torch.optim.SGD(model.parameters(), lr=1.0), 3)
    assert calls == [0, 1, 2]
    assert model.weight.item() == 3


def test_gradients_do_not_accumulate():
    model = Line()
    fit(model, lambda: [batch(0.0)] * 4, minus, torch.optim.SGD(model.parameters(), lr=1.0), 1)
    assert model.weight.item() == 4, "1 + 2 + 3 + 4 if they accumulated"


@pytest.mark.parametrize(("clip", "steps"), [(None, [5.0, 12.0]), (6.5, [2.5, 6.0]), (13.0, [5.0, 12.0])])
def test_gradients_are_clipped_by_their_joint_norm(clip, steps):
    """The gradients 5 and 12 of two weights have the norm 13."""
    model = nn.Module()
    model.weight, model.other = nn.Parameter(torch.zeros(())), nn.Parameter(torch.zeros(()))
    model.forward = lambda graph, x, edge=None: -(5 * model.weight + 12 * model.other) + 0 * x[:, 0]
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    fit(model, lambda: [batch(0.0)], lambda y, target: y.sum(), optimizer, 1, clip=clip)
    torch.testing.assert_close([model.weight.item(), model.other.item()], steps)


@pytest.mark.parametrize("options", [{"clip": 0.0}, {"clip": math.nan}, {"clip": -1.0}, {"precision": "fp8"}])
def test_invalid_arguments(options):
    ((name, value),) = options.items()
    model = Line()
    expected = "clip above 0" if name == "clip" else "a precision of float32, bfloat16"
    with pytest.raises(ValueError, match=f"fit: expected {expected}, got {value!r}"):
        fit(model, lambda: [batch(0.0)], minus, torch.optim.SGD(model.parameters(), lr=1.0), 1, **options)
    assert model.weight.item() == 0


class Product(nn.Linear):
    """Records the precision of its last call."""

    def forward(self, graph, x, edge=None):
        self.seen = torch.get_float32_matmul_precision()
        return super().forward(x)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_precision_applies_to_training_only(precision):
    model = Product(1, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    seen = []

    def measure():
        trained = model.seen
        outputs_and_targets(model, [batch(0.0)])
        seen.append((trained, model.seen))
        return {}

    for _ in range(2):
        fit(model, lambda: [batch(0.0)], minus, optimizer, 1, precision=precision, measure=measure)
    assert seen == [({"float32": "highest", "bfloat16": "medium"}[precision], "highest")] * 2
    with pytest.raises(RuntimeError, match="interrupted"):
        fit(model, interrupted, minus, optimizer, 1, precision=precision)
    assert torch.get_float32_matmul_precision() == "highest"


class Seen(nn.Module):
    """Two layers; records the types of the features and of the gradients."""

    def __init__(self, conv):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second, self.seen = conv(8), conv(16), set()

    def forward(self, graph, x, edge=None):
        hidden = self.first(graph, x, edge).flatten(1).relu()
        y = self.second(graph, hidden, edge).flatten(1)
        self.seen |= {t.dtype for t in (x, hidden, y)}
        return y


@pytest.mark.parametrize(
    "conv",
    [
        lambda width: GCNConv(width, 16),
        lambda width: GATConv(width, 4, 4),
        lambda width: SAGEConv(width, 16),
        lambda width: GINConv(width, 16),
    ],
    ids=["gcn", "gat", "sage", "gin"],
)
def test_features_of_large_graphs_are_bfloat16_in_training(conv, monkeypatch):
    """The training follows that in float32; parameters and gradients, and the evaluation, are float32."""
    torch.manual_seed(1)
    graph, x = dgl.add_self_loop(dgl.rand_graph(64, 512)), torch.randn(64, 8)
    target = (aggregate(graph, x)[:, 0] > 0).long()
    models, losses = [Seen(conv) for _ in range(4)], []
    for model, precision, large in zip(models, ("float32", "bfloat16", "bfloat16", "bfloat16"), (1, 577, 576, 1)):
        monkeypatch.setattr(loop, "LARGE", large)
        history = fit(model, Batch(graph, x, target), epochs=20, precision=precision)
        losses.append([record["loss"] for record in history])
    assert [model.seen for model in models] == [{torch.float32}] * 2 + [{torch.bfloat16}] * 2
    assert {t.dtype for model in models for p in model.parameters() for t in (p, p.grad)} == {torch.float32}
    assert losses[2] == losses[3]
    assert losses[0][-1] < 0.7 * losses[0][0]
    torch.testing.assert_close(losses[3], losses[0], rtol=0.05, atol=0.01)
    outputs_and_targets(models[3], [Batch(graph, x, target)])
    assert models[3].seen == {torch.bfloat16, torch.float32}


def interrupted():
    raise RuntimeError("interrupted")


def test_bfloat16_rounds_products_and_not_sums_over_neighbours():
    """Rounding two factors to 8 bits moves their product by 2^-7 at most; on processors without units for it, by 0."""
    x, weight = (torch.randn(64, 64, generator=torch.Generator().manual_seed(seed)) for seed in (0, 1))
    g = dgl.rand_graph(64, 512)
    exact, summed = x @ weight, aggregate(g, x)
    with matmul_precision("bfloat16"):
        assert ((x @ weight - exact).abs() <= 2**-7 * (x.abs() @ weight.abs())).all()
        assert torch.equal(aggregate(g, x), summed)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_nonfinite_loss_names_the_epoch(bad):
    losses = iter([1.0, 0.5, bad])
    model, seen = Line(), []

    def loss(outputs, targets):
        return outputs.sum() * 0 + next(losses)

    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    with pytest.raises(FloatingPointError, match=rf"the loss is {bad} in epoch 3: try a lower learning rate"):
        fit(model, lambda: [batch(0.0)], loss, optimizer, 5, on_epoch=seen.append)
    assert [record["epoch"] for record in seen] == [1, 2]


@pytest.mark.parametrize("rows", [torch.tensor([2, 0]), torch.tensor([True, False, True])])
def test_rows_select_outputs(rows):
    """Outputs are 1, 2, 3; the loss is taken of two of them, and the third gets no gradient."""
    order = rows.nonzero()[:, 0] if rows.dtype == torch.bool else rows
    x = torch.tensor([[1.0], [2.0], [3.0]], requires_grad=True)
    target = torch.zeros(2)
    model = Line(weight=1.0)
    some = Batch(GRAPH, x, target, rows=rows)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    (record,) = fit(model, lambda: [some], nn.functional.mse_loss, optimizer, 1)
    assert record["loss"] == pytest.approx((1 + 9) / 2)
    assert x.grad[1] == 0
    assert (x.grad[[0, 2]] != 0).all()
    outputs, _ = outputs_and_targets(model, [some])
    assert outputs.tolist() == (order + 1.0).tolist()


def test_edge_weights_reach_the_model():
    outputs, _ = outputs_and_targets(Line(weight=1.0), [batch(0.0, edge=torch.tensor([2.0, 3.0]))])
    assert outputs.tolist() == [6.0]


@pytest.mark.parametrize("training", [True, False])
def test_predict_evaluates_and_restores_the_mode(training):
    model = Line(weight=2.0).train(training)
    outputs, targets = outputs_and_targets(model, (batch(*t) for t in ([1.0], [2.0, 3.0])))
    assert outputs.tolist() == [2.0, 2.0, 2.0]
    assert targets.tolist() == [1.0, 2.0, 3.0]
    assert not outputs.requires_grad
    assert model.modes == [(False, False)] * 2
    assert model.training is training


def test_fit_restores_training_mode_after_measure():
    model = Line().eval()
    train(model, 2, measure=lambda: {"validation": outputs_and_targets(model, [batch(0.0)])[0].item()})
    assert model.modes == [(True, True), (False, False)] * 2


def test_the_same_seed_gives_the_same_records():
    g = dgl.add_self_loop(dgl.graph(([0, 1, 2], [1, 2, 0])))

    def records(seed):
        torch.manual_seed(seed)
        conv, drop = GCNConv(4, 2), nn.Dropout(0.5)
        model = nn.Module()
        model.conv = conv
        model.forward = lambda graph, x, edge: conv(graph, drop(x))
        some = Batch(g, torch.randn(3, 4), torch.tensor([0, 1, 0]))
        optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
        return fit(model, lambda: [some], nn.functional.cross_entropy, optimizer, 5)

    assert records(0) == records(0)
    assert records(0) != records(1)


# ---------------------------------------------------------------- weight decay


def net():
    return Stack.build(GCNConv, 8, 16, 3, num_layers=4, norm=LayerNorm, encoder=True)


def decays(model, decay):
    """Each parameter's name with its decay."""
    names = {id(p): name for name, p in model.named_parameters()}
    groups = decay_groups(model, decay)
    return {names[id(p)]: group["weight_decay"] for group in groups for p in group["params"]}


def test_the_last_matching_pattern_sets_the_decay():
    model = net()
    values = decays(model, {"*": 5e-4, "blocks.*": 0.01, "*.bias": 0.0, "blocks.3.*": 0.1})
    assert sorted(values) == sorted(name for name, _ in model.named_parameters())
    assert values["encoder.0.weight"] == values["head.1.weight"] == 5e-4
    assert values["encoder.0.bias"] == values["head.1.bias"] == values["blocks.0.conv.bias"] == 0.0
    assert values["blocks.0.conv.weight"] == values["blocks.2.norm.weight"] == 0.01
    assert values["blocks.3.conv.bias"] == values["blocks.3.conv.weight"] == 0.1


def test_parameters_without_a_pattern_are_not_decayed():
    values = decays(net(), {"encoder.*": 0.5})
    assert {value for name, value in values.items() if not name.startswith("encoder")} == {0.0}
    assert set(decays(net(), {}).values()) == {0.0}


def test_one_group_per_decay_with_shared_parameters_once():
    model = net()
    share_parameters_(model.blocks[1:])
    groups = decay_groups(model, {"blocks.*": 0.01, "head.*": 0.01, "encoder.*": 0.02})
    assert [group["weight_decay"] for group in groups] == [0.01, 0.02]
    assert sum(len(group["params"]) for group in groups) == len(list(model.parameters()))


def test_the_optimizer_applies_the_decay():
    """With gradients of 0, a step of SGD leaves 1 - rate * decay of each."""
    model = net()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    groups = decay_groups(model, {"blocks.*": 0.5, "head.*": 0.1})
    for p in model.parameters():
        p.grad = torch.zeros_like(p)
    torch.optim.SGD(groups, lr=0.1).step()
    factors = {"blocks": 0.95, "head": 0.99, "encoder": 1.0}
    for name, p in model.named_parameters():
        torch.testing.assert_close(p.detach(), before[name] * factors[name.split(".")[0]])


def test_a_pattern_without_match_is_refused():
    with pytest.raises(ValueError, match=r"match some of \['blocks.0.conv.weight', .*, got 'convs.\*'"):
        decay_groups(net(), {"blocks.*": 0.01, "convs.*": 0.1})
