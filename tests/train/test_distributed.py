"""Data-parallel training in two processes, against one process with the whole batch."""

import os
from functools import partial

import pytest
import torch
from torch import nn

from gnnlib import BatchNorm, DiffGroupNorm, GINConv, GraphStore, SAGEConv, Stack, readout_sum
from gnnlib._platform.dgl import dgl
from gnnlib.large.inference import layerwise_inference
from gnnlib.large.precomputed import row_batches
from gnnlib.large.sampling import cluster_batches, sampled_batches
from gnnlib.train import distributed
from gnnlib.train.checkpoints import Checkpoint
from gnnlib.train.distributed import (
    all_gather_rows,
    data_parallel,
    process_group,
    rank,
    shard,
    shard_weight,
    world_size,
)
from gnnlib.train.loop import Batch, fit, outputs_and_targets
from tests.processes import forked, needs_fork

pytestmark = needs_fork


@pytest.fixture
def two(tmp_path):
    """``two(function)`` calls it in a group of two processes and returns their results, by rank."""
    return partial(forked, folder=tmp_path)


def rings_and_stars(num):
    graphs = []
    for i in range(num):
        n = 4 + i % 5
        ends = [(j, (j + 1) % n) for j in range(n)] if i % 2 else [(0, j) for j in range(1, n)]
        graph = dgl.graph(([u for u, _ in ends] + [v for _, v in ends], [v for _, v in ends] + [u for u, _ in ends]))
        graph.ndata["x"] = torch.randn(n, 3, generator=torch.Generator().manual_seed(i))
        graphs.append(graph)
    return GraphStore(graphs, torch.arange(num) % 2)


def gin_with_norm(in_feats, out_feats):
    mlp = nn.Sequential(
        nn.Linear(in_feats, out_feats), nn.BatchNorm1d(out_feats), nn.ReLU(), nn.Linear(out_feats, out_feats)
    )
    return GINConv(in_feats, out_feats, apply_func=mlp, learn_eps=True)


def trained(num_graphs, optimizer, dtype=torch.float64, epochs=3, dropout=0.0, path=None):
    """Weights, records and outputs of a small training, in batches of 4."""
    store, generator = rings_and_stars(num_graphs), torch.Generator().manual_seed(0)

    def batch(rows):
        graph = store.batch(rows)
        return Batch(graph, graph.ndata["x"].to(dtype), store.labels[rows])

    def batches():
        return (batch(shard(rows)) for rows in torch.randperm(num_graphs, generator=generator).split(4))

    torch.manual_seed(5)
    model = Stack.build(gin_with_norm, 3, 8, 2, 2, norm=BatchNorm, dropout=dropout, readout=readout_sum).to(dtype)
    records = fit(
        model,
        batches,
        nn.functional.cross_entropy,
        optimizer(model.parameters()),
        epochs,
        measure=lambda: {
            "first": outputs_and_targets(model, [batch(torch.arange(3)), batch(torch.arange(2))])[0][0, 0].item()
        },
        checkpoint=None if path is None else Checkpoint(path),
        generators=[generator],
    )
    return model.state_dict(), records, *outputs_and_targets(model, map(batch, torch.arange(num_graphs).split(3)))


def adam(parameters):
    return torch.optim.Adam(parameters, lr=0.01)


def sgd(parameters):
    return torch.optim.SGD(parameters, lr=0.05, momentum=0.9)


@pytest.mark.parametrize(
    ("num_graphs", "optimizer", "dtype", "epochs", "tolerance"),
    [(23, adam, torch.float64, 3, 1e-7), (24, sgd, torch.float32, 1, 1e-5)],
    ids=["unequal-shares", "single-precision"],
)
def test_same_steps_as_one_process_with_the_whole_batch(two, num_graphs, optimizer, dtype, epochs, tolerance):
    alone = trained(num_graphs, optimizer, dtype, epochs)
    first, second = two(lambda: trained(num_graphs, optimizer, dtype, epochs))
    assert all(torch.equal(first[0][name], second[0][name]) for name in first[0])
    assert first[1] == second[1]
    torch.testing.assert_close(first[0], alone[0], rtol=tolerance, atol=tolerance)
    torch.testing.assert_close(first[2:], alone[2:], rtol=tolerance, atol=tolerance)
    for ours, theirs in zip(first[1], alone[1], strict=True):
        assert ours == pytest.approx(theirs, rel=tolerance, abs=tolerance)


def test_a_batch_smaller_than_the_group_is_the_same_step(two):
    """21 graphs: each epoch's last batch has one, which both processes take. Its statistics count twice in the running
    variance, which is that of the sample, and nowhere else."""
    alone, first = trained(21, adam), two(lambda: trained(21, adam))[0]
    for name, value in alone[0].items():
        if "running_var" not in name:
            torch.testing.assert_close(first[0][name], value, rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("how", ["sampled", "clusters", "rows"])
def test_same_steps_on_nodes_of_a_large_graph(two, how):
    """3 epochs of 7 steps, the last smaller. Sampled with all neighbours, as those drawn would differ, and without
    batch norms, in which a neighbour of nodes in both processes counts twice; clusters without edges between them,
    which are left out between processes."""
    some = torch.Generator().manual_seed(3)
    ends = torch.randint(10, (2, 400), generator=some) + 10 * torch.randint(8, (400,), generator=some)
    graph, x = dgl.add_self_loop(dgl.graph(tuple(ends), num_nodes=80)), torch.randn(80, 3, dtype=torch.float64)
    label, train, cluster = torch.arange(80) % 2, torch.randperm(80, generator=some)[:52], torch.arange(80) // 10

    def trained():
        torch.manual_seed(5)
        drawn = torch.Generator().manual_seed(0)
        data = x, label, train
        batches = {
            "sampled": lambda: sampled_batches(graph, *data, fanouts=[-1, -1], batch_size=8, generator=drawn),
            "clusters": lambda: cluster_batches(graph, *data, cluster=cluster, batch_size=4, generator=drawn),
            "rows": lambda: row_batches(*data, batch_size=8, generator=drawn),
        }
        head = nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 2))
        layers = Stack.build(SAGEConv, 3, 8, 2, 2, norm=None if how == "sampled" else BatchNorm)
        model = (Stack([], head=head) if how == "rows" else layers).to(x.dtype)
        records = fit(model, batches[how], nn.functional.cross_entropy, adam(model.parameters()), 3, generators=[drawn])
        return model.state_dict(), [record["loss"] for record in records]

    alone, (first, second) = trained(), two(trained)
    assert all(torch.equal(first[0][name], second[0][name]) for name in first[0])
    torch.testing.assert_close(first[0], alone[0], rtol=1e-7, atol=1e-7)
    assert first[1] == pytest.approx(alone[1], rel=1e-7)


def test_a_resumed_training_ends_with_the_same_weights(two, tmp_path):
    def interrupted():
        trained(24, adam, epochs=2, dropout=0.5, path=tmp_path / "checkpoint")
        return trained(24, adam, epochs=4, dropout=0.5, path=tmp_path / "checkpoint")

    uninterrupted, resumed = two(lambda: trained(24, adam, epochs=4, dropout=0.5))[1], two(interrupted)[1]
    assert uninterrupted[1] == resumed[1]
    assert all(torch.equal(uninterrupted[0][name], resumed[0][name]) for name in uninterrupted[0])


NORMS = {
    "ours": (lambda: BatchNorm(3), (9, 2, 3)),
    "without-weights": (lambda: nn.Sequential(nn.BatchNorm1d(3, affine=False, momentum=None), nn.Linear(3, 3)), (9, 3)),
    "without-running-statistics": (lambda: nn.BatchNorm1d(3, track_running_stats=False), (9, 3, 4)),
    "images": (lambda: nn.BatchNorm2d(3), (9, 3, 4, 2)),
    "inside-another": (lambda: DiffGroupNorm(3, groups=2, lam=0.5), (9, 3)),
}


def normalised(norm, x, mine):
    """Outputs, derivatives and buffers after two steps on the rows ``mine``."""
    norm.to(torch.float64)
    graph = (dgl.graph(([], []), num_nodes=len(x[mine])),) if type(norm).__module__.startswith("gnnlib") else ()
    x = x[mine].clone().requires_grad_()
    with data_parallel(norm) as step:
        for _ in range(2):
            y = step(*graph, x)
            (y.square() * torch.arange(1.0, 1 + y[0].numel()).view(y.shape[1:])).sum().backward()
    return y.detach(), x.grad, list(norm.buffers()), [p.grad for p in norm.parameters()]


@pytest.mark.parametrize("name", NORMS)
def test_batch_norms_take_their_statistics_over_all_processes(two, name):
    """Against torch's kernel on all rows."""
    make, shape = NORMS[name]
    torch.manual_seed(1)
    x = 5 + torch.randn(shape, dtype=torch.float64)
    norm = make()
    state = norm.state_dict()

    def part():
        norm = make()
        norm.load_state_dict(state)
        result = normalised(norm, x, slice(rank() * 5, 5 + rank() * 4))
        return result, "forward" in vars(norm) or any(buffer.requires_grad for buffer in norm.buffers())

    (first, changed), (second, _) = two(part)
    y, grad, buffers, weights = normalised(norm, x, slice(None))
    assert not changed, "the model has its own forward methods again"
    torch.testing.assert_close(torch.cat([first[0], second[0]]), y, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(torch.cat([first[1], second[1]]), grad, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(first[2], buffers, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(
        [2 * g for g in first[3]], weights, rtol=1e-6, atol=1e-6
    )  # means over processes, against sums


def test_each_process_draws_different_numbers(two):
    def draws():
        generator = torch.Generator().manual_seed(rank())
        torch.manual_seed(0)
        with data_parallel(nn.Linear(1, 1), [generator]):
            return torch.rand(3), torch.rand(3, generator=generator)

    (mine, order), (other, same_order) = two(draws)
    assert not torch.equal(mine, other)
    assert torch.equal(order, same_order)


def test_a_killed_process_ends_the_others_with_a_clear_error(two, tmp_path):
    def dies():
        if rank() == 1:
            torch.save("dead", tmp_path / "1.pt")
            os._exit(1)
        distributed.all_gather_object("anyone?")

    error, _ = two(dies)
    assert error == (
        "ConnectionError",
        "process 0 of 2: another process has ended; finished work is kept, and the same command resumes from it",
    )


def test_other_errors_are_unchanged(two):
    def fails():
        distributed.all_gather_object("here")  # else process 0 ends before process 1 has started
        raise RuntimeError("mine")

    assert two(fails) == [("RuntimeError", "mine")] * 2


@pytest.mark.parametrize("world", [1, 2, 3, 5])
def test_shards_are_a_partition(monkeypatch, world):
    monkeypatch.setattr(distributed, "world_size", lambda: world)
    for num in range(1, 12):
        rows, shards = torch.arange(num), []
        for number in range(world):
            monkeypatch.setattr(distributed, "rank", lambda number=number: number)
            shards.append(shard(rows))
        assert all(len(part) for part in shards)
        if num >= world:
            assert torch.cat(shards).sort().values.tolist() == rows.tolist()
            assert max(map(len, shards)) - min(map(len, shards)) <= 1


def test_gathered_rows_are_in_order(two):
    all_rows = [(torch.tensor(i), torch.tensor(-i)) for i in range(5)]
    for rows in two(lambda: all_gather_rows(all_rows[rank() :: 2])):
        assert rows == all_rows


@pytest.mark.parametrize("folder", [False, True])
def test_processes_share_the_inference_of_all_nodes(two, tmp_path, folder):
    """30 nodes, 7 at a time: five parts in each of two layers, and the same bits as alone."""
    graph, x = dgl.rand_graph(30, 100), torch.randn(30, 3)
    model = Stack.build(SAGEConv, 3, 4, 2, 2)
    expected = layerwise_inference(model, graph, x, batch_size=7)

    def part():
        calls = []
        model.blocks[0].register_forward_hook(lambda *_: calls.append(1))
        where = tmp_path / f"layers-{rank()}" if folder else None
        outputs = layerwise_inference(model, graph, x, batch_size=7, folder=where)
        return outputs[torch.arange(30)], len(calls)

    (first, first_calls), (second, second_calls) = two(part)
    assert torch.equal(first, expected)
    assert torch.equal(second, expected)
    assert (first_calls, second_calls) == (3, 2)


def test_a_single_process_changes_nothing():
    model, before = nn.BatchNorm1d(2), torch.get_rng_state()
    with process_group(), data_parallel(model) as step:
        assert step is model
        assert "forward" not in vars(model)
    assert (rank(), world_size(), shard_weight(7)) == (0, 1, 1.0)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ("gpus", "nccl", "backend"), [(2, True, "cpu:gloo,cuda:nccl"), (2, False, "gloo"), (0, True, "gloo")]
)
def test_nccl_for_processes_with_gpus(monkeypatch, gpus, nccl, backend):
    """The choice only, without a GPU: process 3 on a machine with two GPUs takes the second."""
    backends, device = [], []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    monkeypatch.setattr(torch.cuda, "set_device", device.append)
    monkeypatch.setattr(torch.distributed, "is_nccl_available", lambda: nccl)
    monkeypatch.setattr(torch.distributed, "init_process_group", backends.append)
    for name, value in {"WORLD_SIZE": "4", "RANK": "3", "LOCAL_RANK": "3"}.items():
        monkeypatch.setenv(name, value)
    with process_group():
        assert backends == [backend]
    assert device == ([1] if "nccl" in backend else [])


def test_clusters_give_every_process_the_same_number_of_steps(two):
    graph, cluster, train = dgl.rand_graph(40, 100), torch.arange(40) % 8, torch.tensor([0, 8, 3])

    def epochs():
        generator, label = torch.Generator().manual_seed(0), torch.zeros(40, dtype=torch.int64)
        data = graph, torch.rand(40, 2), label, train
        options = {"cluster": cluster, "batch_size": 4, "generator": generator}
        return [[len(batch.target) for batch in cluster_batches(*data, **options)] for _ in range(10)]

    first, second = two(epochs)
    assert [len(epoch) for epoch in first] == [len(epoch) for epoch in second]
    assert all(number > 0 for epoch in (*first, *second) for number in epoch)
    assert {len(epoch) for epoch in first} == {
        0,
        1,
    }  # clusters 0 and 3 in one share, or in two batches, or in both shares
