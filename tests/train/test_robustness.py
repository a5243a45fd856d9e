"""Arguments of a training: schedulers, numbers of NumPy, masks, no batches; and the modes after an evaluation."""

import numpy as np
import pytest
import torch
from torch import nn

import gnnlib
from gnnlib import GCNConv, SAGEConv, Stack
from gnnlib._platform.dgl import dgl
from gnnlib._utils.model_state import evaluation_mode
from gnnlib.large import cluster_batches, layerwise_inference, row_batches, sampled_batches
from gnnlib.large.tables import NpyMatrix
from gnnlib.train import Batch, Checkpoint, fit
from gnnlib.train.loop import outputs_and_targets


def training(**options):
    torch.manual_seed(0)
    graph = dgl.add_self_loop(dgl.graph(tuple(torch.randint(13, (2, 40))), num_nodes=13))
    x, label = torch.randn(13, 5), torch.randint(3, (13,))
    model = GCNConv(5, 3)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    make = options.pop("scheduler", None)
    options["scheduler"] = None if make is None else make(optimizer)
    batches = options.pop("batches", lambda: [Batch(graph, x, label)])
    epochs = options.pop("epochs", 3)
    records = fit(model, batches, nn.functional.cross_entropy, optimizer, epochs, **options)
    return records, optimizer.param_groups[0]["lr"]


def plateau(mode):
    return lambda optimizer: torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, mode, factor=0.5, patience=0)


def test_plateau_follows_the_score_or_the_loss():
    scores = iter([1.0, 0.0, 0.0, 2.0])
    _, rate = training(scheduler=plateau("max"), score=lambda record: next(scores), epochs=4)
    assert rate == 0.25, "two epochs without a better score"
    records, rate = training(scheduler=plateau("min"), epochs=4)
    losses = [record["loss"] for record in records]
    assert rate == 0.5 ** sum(b >= min(losses[: i + 1]) * (1 - 1e-4) for i, b in enumerate(losses[1:]))
    with pytest.raises(ValueError, match="expected ReduceLROnPlateau with mode='min', or with score="):
        training(scheduler=plateau("max"))


VALUES = [np.float64(0.5), np.float32(0.5), np.int64(1), np.mean([0.5, 0.5]), torch.tensor(0.5), 0.5]


@pytest.mark.parametrize("value", VALUES, ids=[type(v).__name__ + str(i) for i, v in enumerate(VALUES)])
def test_checkpoints_hold_any_number(tmp_path, value):
    path = tmp_path / "training.ckpt"
    options = {"measure": lambda: {"accuracy": value}, "score": lambda record: (value, -record["loss"])}
    training(checkpoint=Checkpoint(path), epochs=2, **options)
    resumed, _ = training(checkpoint=Checkpoint(path), epochs=4, **options)
    expected, _ = training(epochs=4, **options)
    assert resumed == expected
    assert all(type(record["accuracy"]) in (float, int) for record in resumed)


def test_an_epoch_without_batches_is_an_error():
    with pytest.raises(ValueError, match="expected batches with targets in each epoch, got none"):
        training(batches=list)


def mixed():
    model = nn.Sequential(nn.BatchNorm1d(2), nn.Dropout(0.5), nn.Linear(2, 2)).train()
    model[0].eval()  # frozen statistics
    return model


def modes(model):
    return [module.training for module in model.modules()]


def test_evaluation_restores_the_mode_of_each_module():
    model = mixed()
    before = modes(model)
    with evaluation_mode(model):
        assert not any(modes(model))
    assert modes(model) == before
    with pytest.raises(KeyError), evaluation_mode(model):
        raise KeyError
    assert modes(model) == before


def test_predict_and_inference_restore_modes_after_errors():
    graph, x = dgl.add_self_loop(dgl.rand_graph(13, 40)), torch.randn(13, 5)
    model = Stack.build(SAGEConv, 5, 4, 3, num_layers=2, norm=gnnlib.BatchNorm)
    model.blocks[0].norm.eval()
    before = modes(model)
    outputs_and_targets(model, [Batch(graph, x, torch.zeros(13))])
    assert modes(model) == before
    layerwise_inference(model, graph, x, batch_size=5)
    assert modes(model) == before
    for wrong in (
        lambda: outputs_and_targets(model, [Batch(graph, x[:, :2], torch.zeros(13))]),
        lambda: layerwise_inference(model, graph, x[:, :2], batch_size=5),
    ):
        with pytest.raises(ValueError, match="SAGEConv"):
            wrong()
        assert modes(model) == before


NODES = range(20, 30)


def batches_of(nodes):
    graph, x, y = dgl.rand_graph(50, 300), torch.rand(50, 1), torch.arange(50)
    generator = torch.Generator().manual_seed(0)
    yield sampled_batches(graph, x, y, nodes, fanouts=[3], batch_size=8, generator=generator)
    yield row_batches(x, y, nodes, batch_size=8, generator=generator)
    yield row_batches(x, y, nodes, batch_size=64)
    yield cluster_batches(graph, x, y, nodes, cluster=y % 5, batch_size=2, generator=generator)


MASK = torch.zeros(50, dtype=torch.bool)
MASK[list(NODES)] = True


@pytest.mark.parametrize(
    "nodes", [MASK, MASK.numpy(), torch.tensor(NODES), torch.tensor(NODES) - 50, list(NODES)], ids=range(5)
)
def test_nodes_are_numbers_or_a_mask(nodes):
    for batches in batches_of(nodes):
        assert sorted(torch.cat([batch.target for batch in batches]).tolist()) == list(NODES)


@pytest.mark.parametrize("nodes", [torch.tensor([3, 50]), torch.tensor([-51])])
def test_nodes_out_of_range(nodes):
    for batches in batches_of(nodes):
        with pytest.raises(IndexError, match="expected numbers from -50 to 49"):
            list(batches)


def test_rows_of_a_file(tmp_path):
    values = np.random.default_rng(0).standard_normal((40, 3)).astype(np.float32)
    np.save(tmp_path / "x.npy", values)
    matrix = NpyMatrix.open(tmp_path / "x.npy")
    for rows in (torch.tensor([3, -1, 0]), torch.arange(40) % 7 == 0):
        assert torch.equal(matrix[rows], torch.from_numpy(values)[rows])
    with pytest.raises(IndexError, match=r"x\.npy: rows: expected numbers from -40 to 39, got 40"):
        matrix[torch.tensor([40])]
    content = (tmp_path / "x.npy").read_bytes()
    (tmp_path / "x.npy").write_bytes(content[:-50])
    assert torch.equal(matrix[torch.tensor([0])], torch.from_numpy(values)[:1])
    with pytest.raises(ValueError, match=r"x\.npy: expected 40 rows, got a file that was cut off"):
        matrix[torch.tensor([39])]
