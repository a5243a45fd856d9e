"""Checkpoints: a resumed training ends with the same weights as an uninterrupted one."""

import errno
import hashlib
import io
import os
import resource
from functools import partial

import pytest
import torch
from torch import nn

from gnnlib import BatchNorm, GCNConv, Stack
from gnnlib._platform.dgl import dgl
from gnnlib.testing.graphs import random_graph
from gnnlib.train.checkpoints import Checkpoint, TrainingState
from gnnlib.train.loop import Batch, fit, outputs_and_targets

EPOCHS = 6
ONE_CYCLE = partial(torch.optim.lr_scheduler.OneCycleLR, max_lr=0.05, total_steps=4 * EPOCHS + 1)


class Killed(Exception):
    pass


def train(
    checkpoint=None,
    kill=None,
    epochs=EPOCHS,
    width=8,
    seen=None,
    step_per_batch=False,
    lr=0.01,
    weight_decay=0,
    optimizer=torch.optim.Adam,
    schedule=ONE_CYCLE,
    loss=nn.functional.cross_entropy,
    clip=None,
    dropout=0.5,
    activation=nn.ReLU,
):
    """Dropout, batch norm, Adam, a schedule, batches shuffled by a generator; ``kill`` interrupts an epoch."""
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(1)
    graph = random_graph(20, 80, seed=0)
    x, target = torch.randn(20, 4), torch.arange(20) % 3
    model = Stack.build(GCNConv, 4, width, 3, num_layers=3, norm=BatchNorm, dropout=dropout, activation=activation)
    optimizer = optimizer(model.parameters(), lr=lr, weight_decay=weight_decay)
    scheduler = schedule(optimizer)
    epochs_begun = []

    def batches():
        epochs_begun.append(None)
        for number, rows in enumerate(torch.randperm(20, generator=generator).split(5)):
            if kill == len(epochs_begun) and number == 2:
                raise Killed
            yield Batch(graph, x, target[rows], rows=rows)

    def measure():
        outputs, labels = outputs_and_targets(model, [Batch(graph, x, target)])
        return {"validation": (outputs.argmax(1) == labels).double().mean().item()}

    records = fit(
        model,
        batches,
        loss,
        optimizer,
        epochs,
        clip=clip,
        scheduler=scheduler,
        step_per_batch=step_per_batch,
        measure=measure,
        score=lambda record: (record["validation"], -record["loss"]),
        on_epoch=seen,
        checkpoint=checkpoint,
        generators=[generator],
    )
    return records, model.state_dict()


def assert_same(one, other):
    assert one[0] == other[0]
    for name, value in one[1].items():
        assert torch.equal(value, other[1][name]), name


@pytest.mark.parametrize("step_per_batch", [False, True])
def test_interrupted_in_every_epoch_it_ends_with_the_same_weights(tmp_path, step_per_batch):
    uninterrupted, path = train(step_per_batch=step_per_batch), tmp_path / "run.checkpoint"
    for kill in range(1, 4):  # each run counts its own epochs
        with pytest.raises(Killed):
            train(Checkpoint(path), kill=kill, step_per_batch=step_per_batch)
    seen = []
    assert_same(train(Checkpoint(path), seen=seen.append, step_per_batch=step_per_batch), uninterrupted)
    assert seen == uninterrupted[0]
    assert_same(
        train(Checkpoint(path), step_per_batch=step_per_batch), uninterrupted
    )  # a finished training does nothing
    assert os.listdir(tmp_path) == ["run.checkpoint"]


def test_patience_counts_across_an_interruption(tmp_path):
    """No epoch is better than the first: with a patience of 2 it ends after the third, wherever it was interrupted."""

    def flat(checkpoint, epochs):
        model = nn.Linear(1, 1)
        model.forward = lambda graph, x, edge=None: nn.Linear.forward(model, x)
        batch = Batch(dgl.graph(([0], [1])), torch.ones(2, 1), torch.ones(2, 1))
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        score = {"score": lambda record: 0.0, "patience": 2, "checkpoint": checkpoint}
        return fit(model, lambda: [batch], nn.functional.mse_loss, optimizer, epochs, **score)

    for epochs in (1, 2, 3, 9):
        path = tmp_path / str(epochs)
        flat(Checkpoint(path), epochs)
        assert len(flat(Checkpoint(path), 9)) == 3


@pytest.mark.parametrize(
    "damage", [lambda b: b[:-7], lambda b: b[:40], lambda b: b"", lambda b: b[:99] + b"!" + b[100:]]
)
def test_a_damaged_file_is_named_and_the_training_starts_again(damage, tmp_path):
    path = tmp_path / "run.checkpoint"
    first = train(Checkpoint(path), epochs=3)
    broken = damage(path.read_bytes())
    path.write_bytes(broken)
    with pytest.warns(UserWarning, match="run.checkpoint is damaged; kept as run.checkpoint.old"):
        again = train(Checkpoint(path), epochs=3)
    assert_same(again, first)
    assert (tmp_path / "run.checkpoint.old").read_bytes() == broken


def test_every_invalid_file_is_kept(tmp_path):
    path = tmp_path / "run.checkpoint"
    for content in (b"first", b"second", b"third"):
        path.write_bytes(content)
        with pytest.warns(UserWarning, match=r"run.checkpoint is damaged; kept as run.checkpoint(-\d)?.old"):
            assert Checkpoint(path).read() is None
    names = ("run.checkpoint.old", "run.checkpoint-1.old", "run.checkpoint-2.old")
    assert [(tmp_path / name).read_bytes() for name in names] == [b"first", b"second", b"third"]


def test_an_unreadable_file_is_named_and_set_aside(tmp_path, monkeypatch):
    path = tmp_path / "run.checkpoint"
    train(Checkpoint(path), epochs=2)
    content = path.read_bytes()

    def denied(self):
        raise PermissionError(errno.EACCES, "Permission denied", str(self))

    with monkeypatch.context() as patch:
        patch.setattr(type(path), "read_bytes", denied)
        with pytest.warns(UserWarning, match=r"is unreadable \(Permission denied\); kept as run.checkpoint.old"):
            assert Checkpoint(path).read() is None
    assert (tmp_path / "run.checkpoint.old").read_bytes() == content


@pytest.fixture
def small_files():
    """Limits the size of files that can be written, as a full disk does."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_keeps_the_last_checkpoint(tmp_path, small_files):
    uninterrupted, path = train(), tmp_path / "run.checkpoint"
    train(Checkpoint(path), epochs=3)
    before = path.read_bytes()
    small_files(len(before) // 2)
    with pytest.raises(OSError, match=r"\[Errno 27\] File too large: '.*run.checkpoint'"):
        train(Checkpoint(path))
    assert os.listdir(tmp_path) == ["run.checkpoint"]
    assert path.read_bytes() == before
    small_files(resource.RLIM_INFINITY)
    assert_same(train(Checkpoint(path)), uninterrupted)


def test_remove_deletes_partial_files(tmp_path):
    path = tmp_path / "run.checkpoint"
    for name in (f".{'0f' * 16}.run.checkpoint", f".{'0f' * 16}.other.checkpoint", "mine.run.checkpoint"):
        (tmp_path / name).touch()
    Checkpoint(path).write({})
    Checkpoint(path).remove()
    assert sorted(os.listdir(tmp_path)) == [f".{'0f' * 16}.other.checkpoint", "mine.run.checkpoint"]


def test_another_origin(tmp_path):
    path = tmp_path / "run.checkpoint"
    train(Checkpoint(path, origin="seed 0"), epochs=2)
    with pytest.warns(UserWarning, match="of another training .'seed 0', expected 'seed 1'"):
        assert Checkpoint(path, origin="seed 1").read() is None


def test_another_origin_of_entries_is_named_by_its_entries(tmp_path):
    path = tmp_path / "run.checkpoint"
    train(Checkpoint(path, origin={"seed": 0, "data": "cora"}), epochs=2)
    with pytest.warns(UserWarning, match=r"of another training \(seed is 0, expected 1\); kept as run.checkpoint.old"):
        assert Checkpoint(path, origin={"seed": 1, "data": "cora"}).read() is None


CHANGES = {
    "width": (dict(width=9), r"parameter blocks.0.conv.weight is \(4, 8\), expected \(4, 9\); .*; and \d+ more"),
    "rate": (
        dict(schedule=partial(torch.optim.lr_scheduler.OneCycleLR, max_lr=0.1, total_steps=4 * EPOCHS + 1)),
        "initial_lr of parameter group 0 is 0.002, expected 0.004",
    ),
    "decay": (dict(weight_decay=0.1), "weight_decay of parameter group 0 is 0, expected 0.1"),
    "optimizer": (dict(optimizer=torch.optim.AdamW), "optimizer is Adam, expected AdamW"),
    "scheduler": (dict(schedule=partial(torch.optim.lr_scheduler.StepLR, step_size=9)), "scheduler is OneCycleLR, exp"),
    "steps": (dict(schedule=partial(torch.optim.lr_scheduler.OneCycleLR, max_lr=0.05, total_steps=99)), "total_steps"),
    "loss": (dict(loss=nn.functional.nll_loss), "loss is cross_entropy, expected nll_loss"),
    "option of the loss": (
        dict(loss=nn.CrossEntropyLoss(label_smoothing=0.1)),
        r"loss is cross_entropy, expected CrossEntropyLoss\(.*label_smoothing=0.1\)",
    ),
    "weights of classes": (
        dict(loss=nn.CrossEntropyLoss(weight=torch.tensor([1.0, 2.0, 1.0]))),
        r"expected CrossEntropyLoss\(.*weight=\[1.0, 2.0, 1.0\]",
    ),
    "partial loss": (
        dict(loss=partial(nn.functional.cross_entropy, label_smoothing=0.1)),
        r"expected cross_entropy\(label_smoothing=0.1\)",
    ),
    "dropout": (dict(dropout=0.25), r"module blocks.0.dropout is .*, expected Dropout\(p=0.25"),
    "activation": (dict(activation=nn.ELU), r"module blocks.0.activation is ReLU\(\), expected ELU\(alpha=1.0\)"),
    "clip": (dict(clip=0.5), "clip is None, expected 0.5"),
}


@pytest.mark.slow
@pytest.mark.parametrize("change", CHANGES)
def test_a_checkpoint_of_another_training_is_set_aside_in_words_and_the_training_is_as_without(change, tmp_path):
    options, words = CHANGES[change]
    path = tmp_path / "run.checkpoint"
    train(Checkpoint(path), epochs=2)
    before = path.read_bytes()
    with pytest.warns(UserWarning, match=words):
        started = train(Checkpoint(path), epochs=3, **options)
    assert_same(started, train(epochs=3, **options))
    assert (tmp_path / "run.checkpoint.old").read_bytes() == before


def test_a_path_is_a_checkpoint_and_a_generator_a_list_of_one(tmp_path):
    torch.manual_seed(0)
    model, generator = nn.Linear(1, 1), torch.Generator().manual_seed(0)
    batch = Batch(None, torch.ones(2, 1), torch.ones(2, 1))
    for epochs in (1, 2):
        fit(model, [batch], epochs=epochs, checkpoint=tmp_path / "run.checkpoint", generators=generator)
    state = Checkpoint(tmp_path / "run.checkpoint")
    assert len(fit(model, [batch], epochs=2, checkpoint=str(state.path), generators=[generator])) == 2


def test_a_resume_says_what_it_resumes_and_fewer_epochs_are_refused(tmp_path, caplog):
    path = tmp_path / "run.checkpoint"
    train(Checkpoint(path), epochs=3)
    assert not caplog.messages
    train(Checkpoint(path), epochs=4)
    assert caplog.messages == [f"{path}: resuming after epoch 3"]
    with pytest.raises(ValueError, match="fit: expected epochs >= 4, those of the checkpoint, got 2"):
        train(Checkpoint(path), epochs=2)


def test_reading_runs_no_code(tmp_path):
    class Trap:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "trapped"),)

    path = tmp_path / "run.checkpoint"
    Checkpoint(path).write({"model": Trap()})  # with a correct checksum
    with pytest.warns(UserWarning, match=r"run.checkpoint is of another format \((?i:weights.only)"):
        assert Checkpoint(path).read() is None
    assert not (tmp_path / "trapped").exists()


FOREIGN = [{}, [1, 2], 5, {"origin": "", "seconds": 0.0}, {"origin": "", "seconds": "x", "state": {}}, None]


@pytest.mark.parametrize("content", [*FOREIGN, b"", b"PK\x03\x04", b"\x80\x02."], ids=range(len(FOREIGN) + 3))
def test_files_of_other_programs_are_set_aside(tmp_path, content):
    """With a correct checksum; without one they are damaged."""
    path = tmp_path / "run.checkpoint"
    if not isinstance(content, bytes):
        buffer = io.BytesIO()
        torch.save(content, buffer)
        content = buffer.getvalue()
    path.write_bytes(hashlib.sha256(content).digest() + content)
    with pytest.warns(UserWarning, match=r"run.checkpoint is of another format \(.*kept as run.checkpoint.old"):
        assert Checkpoint(path).read() is None
    path.write_bytes(content)
    with pytest.warns(UserWarning, match=r"run.checkpoint is damaged; kept as run.checkpoint-1.old"):
        assert Checkpoint(path).read() is None


def test_the_state_of_another_training(tmp_path):
    path = tmp_path / "run.checkpoint"
    Checkpoint(path).write({"epoch": 3})
    with pytest.raises(ValueError, match=rf"{path}: expected best, model, random, records, got epoch"):
        TrainingState(nn.Linear(1, 1), checkpoint=Checkpoint(path))


def test_a_folder_is_refused_and_stays(tmp_path):
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "notes.txt").write_text("mine")
    for checkpoint in (tmp_path / "runs", str(tmp_path / "runs")):
        with pytest.raises(
            ValueError, match=r"Checkpoint: expected a file, .*runs.run\.checkpoint, got the folder .*runs"
        ):
            train(checkpoint)
    assert [path.name for path in tmp_path.rglob("*")] == ["runs", "notes.txt"]
