"""Layer-wise training: parameters and inputs of each stage, processes, and depth that end-to-end training cannot."""

from functools import partial

import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.neighbors import kneighbors_graph
from torch import nn

from gnnlib import (
    BatchNorm,
    DenseConnection,
    GCNConv,
    InitialResidual,
    JumpingKnowledge,
    LayerNorm,
    Residual,
    Stack,
    readout_mean,
)
from gnnlib._platform.dgl import dgl
from gnnlib.testing.graphs import random_graph, symmetric_graph
from gnnlib.train.layerwise import fit_layerwise
from gnnlib.train.loop import Batch, fit, outputs_and_targets

ADAM = partial(torch.optim.Adam, lr=0.01)
cross_entropy = nn.functional.cross_entropy


def head(classes):
    return partial(nn.Linear, out_features=classes)


def batch(seed=0, rows=None):
    torch.manual_seed(seed)
    target = torch.randint(3, (11,))
    return Batch(symmetric_graph(seed=seed), torch.randn(11, 4), target if rows is None else target[rows], rows=rows)


def train(stack, batches, epochs=3, optimizer=ADAM, **options):
    torch.manual_seed(5)
    return fit_layerwise(stack, batches, head(3), cross_entropy, optimizer, epochs, **options)


def same(one, other):
    return all(torch.equal(t, other[name]) for name, t in one.items())


def test_each_stage_trains_one_block_on_frozen_features():
    """The parameters that each stage's optimizer gets, and when they change."""
    stack = Stack.build(GCNConv, 4, 8, 3, 3, norm=LayerNorm, dropout=0.5, encoder=True)
    parameter_lists, seen = [], []

    def optimizer(parameters):
        seen.append({name: p.detach().clone() for name, p in stack.named_parameters()})
        parameter_lists.append(list(parameters))
        return ADAM(parameter_lists[-1])

    records = train(stack, [batch()], 4, optimizer)
    assert [[r["epoch"] for r in stage] for stage in records] == [[1, 2, 3, 4]] * 3
    seen.append({name: p.detach().clone() for name, p in stack.named_parameters()})
    stages = [("encoder.", "blocks.0."), ("blocks.1.",), ("blocks.2.", "head.")]
    parts = dict(stack.named_parameters())
    for stage, (before, after, parameters) in enumerate(zip(seen, seen[1:], parameter_lists)):
        changed = {name for name in parts if not torch.equal(before[name], after[name])}
        assert changed == {name for name in parts if name.startswith(stages[stage])}
        trained = {id(p) for p in parameters}
        assert trained >= {id(parts[name]) for name in changed}
        assert len(trained) == len(changed) + (0 if stage == 2 else 2), "its own head, except in the last stage"


def test_a_stage_is_trained_on_the_output_of_the_blocks_before():
    """By hand: the same stages, with `fit` and features of a stack cut short."""
    torch.manual_seed(0)
    stack, twin = (Stack.build(GCNConv, 4, 8, 3, 3, norm=BatchNorm, skip=Residual) for _ in range(2))
    twin.load_state_dict(stack.state_dict())
    some = [batch(0), batch(1, rows=torch.tensor([1, 4]))]
    records = train(stack, some, 3)
    torch.manual_seed(5)
    seeds = torch.randint(2**31, (3,)).tolist()
    for layer, seed in enumerate(seeds):
        torch.manual_seed(seed)
        below = Stack(twin.blocks[:layer]).eval()
        with torch.no_grad():
            frozen = [b._replace(x=below(b.graph, b.x)) for b in some]
        top = nn.Linear(8, 3) if layer < 2 else None
        stage = Stack([twin.blocks[layer]], head=top)
        assert fit(stage, lambda: frozen, cross_entropy, ADAM(stage.parameters()), 3) == records[layer]  # noqa: B023
    assert same(stack.state_dict(), twin.state_dict())


def test_random_numbers_drawn_outside_do_not_matter():
    def trained(draws):
        torch.manual_seed(0)
        stack = Stack.build(GCNConv, 4, 8, 3, 2, dropout=0.5)
        train(stack, [batch()], optimizer=lambda p: (torch.rand(draws), ADAM(p))[1])
        return stack.state_dict(), torch.rand(2)

    (one, after), (_, after_draws) = trained(0), trained(7)
    assert torch.equal(after, after_draws)
    assert same(one, trained(0)[0])


@pytest.mark.parametrize(
    "options",
    [
        dict(skip=InitialResidual, encoder=True),
        dict(skip=DenseConnection, norm=LayerNorm, head=True),
        dict(readout=readout_mean),
        dict(checkpoint=True),
        dict(reversible=2),
    ],
    ids=["initial residual", "growing width", "readout", "checkpoints", "reversible"],
)
def test_any_stack(options):
    """Losses fall at every layer, and the stack is ready for use."""
    torch.manual_seed(0)
    stack = Stack.build(GCNConv, 4, 8, 3, 3, **options)
    if "readout" in options:
        graphs = dgl.batch([random_graph(), symmetric_graph(7)])
        some = Batch(graphs, torch.randn(18, 4), torch.tensor([0, 2]))
    else:
        some = batch()
    records = train(stack, [some], 30)
    assert len(records) == len(stack.blocks)
    assert all(stage[-1]["loss"] < stage[0]["loss"] for stage in records)
    stack.eval()
    loss = cross_entropy(outputs_and_targets(stack, [some])[0], some.target)
    assert loss.item() == pytest.approx(records[-1][-1]["loss"], rel=0.2)


def test_edge_weights_reach_every_block():
    def trained(edge):
        torch.manual_seed(0)
        stack = Stack.build(GCNConv, 4, 8, 3, 2)
        records = train(stack, [batch()._replace(edge=edge)])
        return torch.tensor([[record["loss"] for record in layer] for layer in records])

    num_edges = batch().graph.num_edges()
    ones, twos = trained(torch.ones(num_edges)), trained(torch.arange(1.0, num_edges + 1))
    torch.testing.assert_close(ones, trained(None), rtol=1e-5, atol=0)  # coefficients are rounded elsewhere
    assert ((ones - twos).abs() > 1e-3).any(1).all()


def test_memory_is_that_of_one_layer():
    """Bytes saved for the backward pass of a step, counted when its loss is computed."""

    def peak(num_layers):
        saved, steps = [], []

        def save(t):
            saved.append(t.untyped_storage().nbytes())
            return t

        def loss(outputs, targets):
            steps.append(sum(saved))
            saved.clear()
            return cross_entropy(outputs, targets)

        stack = Stack.build(GCNConv, 4, 8, 3, num_layers, norm=LayerNorm)
        with torch.autograd.graph.saved_tensors_hooks(save, lambda t: t):
            fit_layerwise(stack, [batch()], head(3), loss, ADAM, epochs=2)
        assert len(steps) == 2 * num_layers
        assert stack.training
        return max(steps)

    assert peak(32) == peak(4)


@pytest.mark.process
def test_processes_give_the_same_results(preloaded):
    """Two processes, with dropout, batch norm statistics, and an encoder."""

    def trained(processes):
        torch.manual_seed(0)
        stack = Stack.build(GCNConv, 4, 8, 3, 2, norm=BatchNorm, skip=InitialResidual, dropout=0.5, encoder=True)
        records = train(stack, [batch(0), batch(1)], processes=processes)
        return records, stack.state_dict(), torch.rand(2)

    here, there = trained(False), trained(True)
    torch.testing.assert_close(there, here, rtol=1e-5, atol=1e-6)


@pytest.mark.process
def test_a_failing_process_names_the_layer(capfd):
    stack = Stack.build(GCNConv, 4, 8, 3, 2)
    with pytest.raises(RuntimeError, match="the process of layer 1 ended with 1"):
        train(stack, [batch()._replace(x=torch.full((11, 4), torch.nan))], processes=True)
    assert "FloatingPointError: the loss is nan in epoch 1" in capfd.readouterr().err


def test_a_jump_is_refused():
    stack = Stack.build(GCNConv, 4, 8, 3, 2, jump=JumpingKnowledge.cat)
    with pytest.raises(ValueError, match="expected a stack without a jump, got JumpingKnowledge"):
        train(stack, [batch()])


# ---------------------------------------------------------------- depth


@pytest.fixture(scope="module")
def digits():
    """Handwritten digits, each with edges from its eight nearest: a batch of 20 labels a class, and one of the rest."""
    images, target = load_digits(return_X_y=True)
    near = kneighbors_graph(images, 8).tocoo()
    graph = dgl.add_reverse_edges(dgl.graph((torch.from_numpy(near.col), torch.from_numpy(near.row))))
    graph = dgl.to_simple(dgl.add_self_loop(graph))
    x, label = torch.from_numpy(images).float() / 16, torch.from_numpy(target)
    train = torch.cat([(label == c).nonzero()[:20, 0] for c in range(10)])
    test = torch.ones(len(label), dtype=torch.bool).index_fill(0, train, False)
    return [Batch(graph, x, label[rows], rows=rows) for rows in (train, test)]


def accuracy(model, some):
    outputs, targets = outputs_and_targets(model, [some])
    return (outputs.argmax(1) == targets).float().mean().item()


@pytest.mark.slow
def test_layerwise_training_succeeds_where_a_plain_deep_net_fails(digits):
    """16 plain layers, 40 steps for every weight: layer by layer, or end to end."""
    training, test = digits
    torch.manual_seed(1)
    layerwise, end_to_end = (Stack.build(GCNConv, 64, 32, 10, num_layers=16) for _ in range(2))
    end_to_end.load_state_dict(layerwise.state_dict())
    fit_layerwise(layerwise, [training], head(10), cross_entropy, ADAM, epochs=40)
    fit(end_to_end, lambda: [training], cross_entropy, ADAM(end_to_end.parameters()), epochs=40)
    assert accuracy(layerwise, test) > 0.9
    assert accuracy(end_to_end, test) < 0.6
    fit(layerwise, lambda: [training], cross_entropy, torch.optim.Adam(layerwise.parameters(), lr=1e-3), epochs=5)
    assert accuracy(layerwise, test) > 0.9, "fine-tuned"
