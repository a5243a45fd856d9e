"""Data-parallel training: several processes, on one machine or many, train one model on shards of each batch.

Each step equals that of one process with the whole batch. The processes are started by ``torchrun``
(``docs/distributed.md``): a script opens a `process_group`, divides its batches with `shard` and calls
`gnnlib.train.fit` as usual. A single process runs the same script without any cost.
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
_failed_replicas: list[nn.Module] = []  # are not destroyed, see `process_group`
# Messages of gloo, NCCL and torchrun's store when the connected process has ended.
ERRORS = ("closed by peer", "reset by peer", "Broken pipe", "Connection refused", "Socket", "remote process exited")


def world_size() -> int:
    """The number of processes that train together; 1 outside `process_group`."""
    return distributed.get_world_size() if distributed.is_initialized() else 1


def rank() -> int:
    """The number of this process, from 0; process 0 prints and writes files."""
    return distributed.get_rank() if distributed.is_initialized() else 0


@contextmanager
def process_group() -> Iterator[None]:
    """Context in which the processes that ``torchrun`` started form one group: gloo between CPUs, NCCL between GPUs.

    With GPUs, each process uses the one of its number on its machine. A single process gets no group. A process of
    several that ends with an error exits with status 2, without the exit handlers that would wait for the others.

    Raises:
        ConnectionError: if another process has ended before this one was done

    Example:
        >>> from gnnlib.train.distributed import process_group, rank, world_size
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
    label = f"process {os.environ.get('RANK')} of {os.environ['WORLD_SIZE']}"
    try:
        distributed.init_process_group("cpu:gloo,cuda:nccl" if gpus else "gloo")
        yield
    except BaseException as error:
        # The group is not destroyed, nor are the replicas of `data_parallel`: their threads may wait for Python's lock,
        # which the thread that destroys them holds while it waits for theirs.
        atexit.register(_leave)
        disconnected = isinstance(error, RuntimeError) and any(text in str(error) for text in ERRORS)
        if disconnected or isinstance(error, distributed.DistError):
            raise ConnectionError(
                f"{label}: another process has ended; finished work is kept, and the same command resumes from it"
            ) from error
        raise
    if distributed.is_initialized():
        distributed.destroy_process_group()


def _leave() -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(2)


def broadcast_object(value: T) -> T:
    """The value of process 0, in all processes.

    Example:
        >>> from gnnlib.train.distributed import broadcast_object
        >>> broadcast_object([3, 1, 2])
        [3, 1, 2]
    """
    if world_size() == 1:
        return value
    values = [value]
    distributed.broadcast_object_list(values, src=0)
    return values[0]


def all_gather_object(value: T) -> list[T]:
    """The values of all processes, by rank, in all processes.

    Example:
        >>> from gnnlib.train.distributed import all_gather_object
        >>> all_gather_object("value")
        ['value']
    """
    if world_size() == 1:
        return [value]
    values: list[Any] = [None] * world_size()
    distributed.all_gather_object(values, value)
    return values


def all_reduce_sum(*values: float) -> tuple[float, ...]:
    """Sums over all processes, in all processes.

    Example:
        >>> from gnnlib.train.distributed import all_reduce_sum
        >>> all_reduce_sum(1.5, 2)
        (1.5, 2.0)
    """
    return tuple(float(sum(column)) for column in zip(*all_gather_object(values), strict=True))


def all_gather_rows(rows: Sequence[tuple[Tensor, ...]]) -> list[tuple[Tensor, ...]]:
    """The rows of all processes as one list, interleaved, on the CPU: the first of each process, then the second, ...

    This is the inverse of ``itertools.islice(rows, rank(), None, world_size())``. A single process gets its rows back.

    Args:
        rows: tuples of tensors

    Returns:
        the rows of all processes
    """
    if world_size() == 1:
        return list(rows)
    lists = all_gather_object([tuple(tensor.cpu() for tensor in row) for row in rows])
    return [row for row in chain.from_iterable(zip_longest(*lists)) if row is not None]


def shards(rows: Tensor) -> list[Tensor]:
    """The rows of a batch that each process takes: every world_size-th one, from its rank on.

    If there are fewer rows than processes, each process takes all of them. The step is the same, and no process has an
    empty batch.

    Args:
        rows: (B,), the same in all processes

    Returns:
        the rows of each process
    """
    size = world_size()
    return [rows[first::size] if len(rows) >= size else rows for first in range(size)]


def shard(rows: Tensor) -> Tensor:
    """The rows of a batch that this process takes; see `shards`."""
    return shards(rows)[rank()]


def shard_weight(count: int, device: torch.device | str = "cpu") -> Tensor | float:
    """The factor for a mean over ``count`` targets with which the mean over processes equals that over all targets.

    Args:
        count: the number of targets of this process
        device: of the result
    """
    if world_size() == 1:
        return 1.0
    total = torch.tensor(float(count), device=device)
    distributed.all_reduce(total)
    return count * world_size() / total


@contextmanager
def host_main_first() -> Iterator[None]:
    """Context that the first process of each machine runs before the others, to download, convert and cache data."""
    waits = world_size() > 1 and int(os.environ.get("LOCAL_RANK", 0)) > 0
    if waits:
        all_gather_object(None)
    yield
    if world_size() > 1 and not waits:
        all_gather_object(None)


@contextmanager
def data_parallel(model: nn.Module, generators: Iterable[torch.Generator] = ()) -> Iterator[nn.Module]:
    """Context with the replica of a model to call in the training steps of an epoch.

    Gradients are means over all processes (``DistributedDataParallel``), and batch norms take their statistics over all
    processes: `gnnlib.BatchNorm` and ``torch.nn.BatchNorm*d``, on CPUs too, where ``torch.nn.SyncBatchNorm`` does not
    work. At the start, weights and ``generators`` are set to those of process 0, and PyTorch's default generator to a
    seed that depends on process 0 and the rank. A single process gets the model itself, and no random number is drawn.

    Args:
        model: afterwards it has its own forward methods again
        generators: of the order of batches
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
        _failed_replicas.append(replica)
        raise
    finally:
        for norm in norms:
            del norm.forward


class _Sum(torch.autograd.Function):
    """The sum over processes; its derivative is the sum over processes too."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        y = x.clone()
        distributed.all_reduce(y)
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return _Sum.apply(grad.contiguous())


def _batch_norm(norm: _BatchNorm, *inputs: Any) -> Tensor:
    """The forward method of ``norm`` with statistics over the rows of all processes.

    gnnlib's batch norms are called with a graph and have the features on the last axis, torch's have them on axis 1.
    The moments of the processes are added in double precision, in which E[x^2] - E[x]^2 is accurate enough.
    """
    if not norm.training:
        return type(norm).forward(norm, *inputs)
    x = inputs[-1] if len(inputs) == 2 else inputs[-1].movedim(1, -1)
    rows = x.reshape(-1, x.shape[-1])
    mean = rows.sum(0) / max(len(rows), 1)
    spread = (rows - mean).square().sum(0).double()
    num = spread.new_tensor([len(rows)])
    first, second, num = _sums(num * mean.double(), spread + num * mean.double().square(), num)
    num = num.detach()  # split from a sum that has a gradient
    if num < 2:  # gnnlib's then returns a result, torch's raises an error
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
