"""Processes without new imports: a process group, as of ``torchrun``, and processes in place of spawned ones."""

import multiprocessing
import os
import socket
import traceback

import pytest
import torch

from gnnlib.train.distributed import process_group

needs_fork = [
    pytest.mark.process,
    pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are forked"),
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded"),  # Python 3.12, of fork
]


def preloaded_context() -> multiprocessing.context.BaseContext:
    """Starts processes from a server that has imported gnnlib.

    As a spawned process, each has no state of this process, and receives its arguments as pickles.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["gnnlib"])
    return context


def forked(function, folder, number=2, group=process_group):
    """What ``function()`` returns in each of so many processes, by rank; an error as its name and its message."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]

    def child(rank):
        torch.set_num_threads(1)
        names = {
            "RANK": rank,
            "LOCAL_RANK": rank,
            "WORLD_SIZE": number,
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": port,
        }
        os.environ.update({name: str(value) for name, value in names.items()})
        try:
            with group():
                result = function()
        except BaseException as error:
            traceback.print_exc()
            result = type(error).__name__, str(error)
        torch.save(result, folder / f"{rank}.pt")

    ranks = [multiprocessing.get_context("fork").Process(target=child, args=(rank,)) for rank in range(number)]
    for process in ranks:
        process.start()
    for process in ranks:
        process.join(120)
        assert process.exitcode is not None, "a process hangs"
    return [torch.load(folder / f"{rank}.pt", weights_only=False) for rank in range(number)]
