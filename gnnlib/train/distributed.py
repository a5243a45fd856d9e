"""Several processes, on one machine or many, that train one model: each takes its share of every batch, and all take
the step that one process would take with the whole batch.

Started by ``torchrun`` (``docs/distributed.md``): a script says ``with joined():``, cuts its batches with `shard`, and
calls `gnnlib.train.loop.fit` as ever. A process by itself works alone, and none of this costs it anything.
"""

import atexit
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import chain, zip_longest
from typing import Any, TypeVar

import torch
from torch import Tensor, distributed, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel

__all__ = [
    "all_gather_object",
    "all_gather_rows",
    "host_main_first",
    "process_group",
    "rank",
    "broadcast_object",
    "shard",
    "shards",
    "all_reduce_sum",
    "data_parallel",
    "shard_weight",
    "world_size",
]

T = TypeVar("T")
_broken: list[nn.Module] = []  # replicas whose training failed
# What gloo, NCCL and torchrun's store say when the process at the other end is gone.
GONE = ("closed by peer", "reset by peer", "Broken pipe", "Connection refused", "Socket", "remote process exited")


def world_size() -> int:
    """How many processes train together; 1 outside `process_group`."""
    return distributed.get_world_size() if distributed.is_initialized() else 1


def rank() -> int:
    """The number of this process, from 0; the first prints and writes."""
    return distributed.get_rank() if distributed.is_initialized() else 0


@contextmanager
def process_group() -> Iterator[None]:
    """In here the processes that ``torchrun`` started are one group: gloo between CPUs, NCCL between GPUs, of which
    each process takes the one of its number on its machine. Where there is one process alone, nothing happens.

    Raises: ConnectionError where another process has ended before this one was done. A process of several that ends
    with an error ends with status 2, and what was to wait for the others at its exit does not run.

    >>> with process_group():
    ...     rank(), world_size()
    (0, 1)
    """
    if int(os.environ.get("WORLD_SIZE", 1)) == 1:
        yield
        return
    gpus = torch.cuda.is_available() and distributed.is_nccl_available()
    if gpus:
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", 0)) % torch.cuda.device_count())
    me = f"process {os.environ.get('RANK')} of {os.environ['WORLD_SIZE']}"
    try:
        distributed.init_process_group("cpu:gloo,cuda:nccl" if gpus else "gloo")
        yield
    except BaseException as error:
        # The group stays, and so does what `data_parallel` made of it: its threads may wait for Python's lock, and
        # whoever ends it waits for them and holds that lock.
        atexit.register(_leave)
        gone = isinstance(error, RuntimeError) and any(words in str(error) for words in GONE)
        if gone or isinstance(error, distributed.DistError):
            raise ConnectionError(
                f"{me}: another process has ended; what is finished is kept, the same command goes on from there"
            ) from error
        raise
    if distributed.is_initialized():
        distributed.destroy_process_group()


def _leave() -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(2)


def broadcast_object(value: T) -> T:
    """The first process's value, in all of them.

    >>> broadcast_object([3, 1, 2])
    [3, 1, 2]
    """
    if world_size() == 1:
        return value
    values = [value]
    distributed.broadcast_object_list(values, src=0)
    return values[0]


def all_gather_object(value: T) -> list[T]:
    """Every process's value, by rank, in all of them.

    >>> all_gather_object("mine")
    ['mine']
    """
    if world_size() == 1:
        return [value]
    values: list[Any] = [None] * world_size()
    distributed.all_gather_object(values, value)
    return values


def all_reduce_sum(*values: float) -> tuple[float, ...]:
    """The sums of numbers over all processes.

    >>> all_reduce_sum(1.5, 2)
    (1.5, 2.0)
    """
    return tuple(float(sum(column)) for column in zip(*all_gather_object(values), strict=True))


def all_gather_rows(found: Sequence[tuple[Tensor, ...]]) -> list[tuple[Tensor, ...]]:
    """What all processes found as one list: the first of each, then the second of each, ... on the CPU. Alone, as is.

    It undoes ``itertools.islice(everything, rank(), None, world_size())``, of which each process did its part.
    """
    if world_size() == 1:
        return list(found)
    lists = all_gather_object([tuple(tensor.cpu() for tensor in one) for one in found])
    return [one for one in chain.from_iterable(zip_longest(*lists)) if one is not None]


def shards(rows: Tensor) -> list[Tensor]:
    """What each process takes of a batch, (B,), the same in all of them: every world_size-th row, from its rank on.

    Where there are fewer rows than processes each takes all of them: the step is the same, and no process is without.
    """
    number = world_size()
    return [rows[first::number] if len(rows) >= number else rows for first in range(number)]


def shard(rows: Tensor) -> Tensor:
    """This process's part of `shards`."""
    return shards(rows)[rank()]


def shard_weight(count: int, device: torch.device | str = "cpu") -> Tensor | float:
    """What to multiply a mean over ``count`` targets by, so that the mean over processes is that over all targets."""
    if world_size() == 1:
        return 1.0
    total = torch.tensor(float(count), device=device)
    distributed.all_reduce(total)
    return count * world_size() / total


@contextmanager
def host_main_first() -> Iterator[None]:
    """The first process of each machine does what is in here before the others: it downloads, converts and caches."""
    waits = world_size() > 1 and int(os.environ.get("LOCAL_RANK", 0)) > 0
    if waits:
        all_gather_object(None)
    yield
    if world_size() > 1 and not waits:
        all_gather_object(None)


@contextmanager
def data_parallel(model: nn.Module, generators: Iterable[torch.Generator] = ()) -> Iterator[nn.Module]:
    """The model to call in the training steps of an epoch. Its gradients are means over all processes
    (DistributedDataParallel), its batch norms take their statistics over all of them. Weights and ``generators`` are
    the first process's at the beginning; PyTorch's own random numbers follow from the first process's too, and differ
    from rank to rank. Alone: the model itself, and nothing is drawn.

    The mean, variance and running statistics of `gnnlib.BatchNorm` and ``torch.nn.BatchNorm*d`` are those of the joined
    batch, on CPUs too, where ``torch.nn.SyncBatchNorm`` does not work. Afterwards the model is as it was, but trained.
    """
    if world_size() == 1:
        yield model
        return
    norms = [module for module in model.modules() if isinstance(module, _BatchNorm)]
    torch.manual_seed(broadcast_object(int(torch.randint(2**62, ()))) + rank())
    for generator in generators:
        generator.set_state(broadcast_object(generator.get_state()))
    for norm in norms:
        norm.forward = partial(_batch_norm, norm)  # type: ignore[method-assign]
    replica = DistributedDataParallel(model)
    try:
        yield replica
    except BaseException:
        _broken.append(replica)
        raise
    finally:
        for norm in norms:
            del norm.forward


class _Sum(torch.autograd.Function):
    """The sum over processes; so is its derivative."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        y = x.clone()
        distributed.all_reduce(y)
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return _Sum.apply(grad.contiguous())


def _batch_norm(norm: _BatchNorm, *inputs: Any) -> Tensor:
    """What ``norm`` does, with the statistics of the rows of all processes. Ours are called with a graph and have their
    features last, torch's have them on axis 1. Moments of different processes are added in double precision, where
    E[x^2] - E[x]^2 does no harm."""
    if not norm.training:
        return type(norm).forward(norm, *inputs)
    x = inputs[-1] if len(inputs) == 2 else inputs[-1].movedim(1, -1)
    rows = x.reshape(-1, x.shape[-1])
    mean = rows.sum(0) / max(len(rows), 1)
    spread = (rows - mean).square().sum(0).double()
    num = spread.new_tensor([len(rows)])
    first, second, num = _sums(num * mean.double(), spread + num * mean.double().square(), num)
    num = num.detach()  # split from a sum that has a gradient
    if num < 2:  # ours then has an answer, torch's an error
        return type(norm).forward(norm, *inputs)
    mean = first / num
    variance = second / num - mean.square()
    if norm.running_mean is not None and norm.running_var is not None and norm.num_batches_tracked is not None:
        norm.num_batches_tracked += 1
        rate = norm.momentum if norm.momentum is not None else 1 / float(norm.num_batches_tracked)
        norm.running_mean.lerp_(mean.detach().to(rows), rate)
        norm.running_var.lerp_((variance.detach() * num / (num - 1)).to(rows), rate)
    scale = torch.rsqrt(variance + norm.eps).to(rows)
    scale = scale if norm.weight is None else scale * norm.weight
    y = ((rows - mean.to(rows)) * scale).view(x.shape)
    y = y if norm.bias is None else y + norm.bias
    return y if len(inputs) == 2 else y.movedim(-1, 1)


def _sums(*parts: Tensor) -> tuple[Tensor, ...]:
    return _Sum.apply(torch.cat(parts)).split([len(part) for part in parts])
