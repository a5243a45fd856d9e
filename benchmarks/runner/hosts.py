"""Training on a graph in parts: ``partition`` cuts a task's graph, once; ``host`` then runs on each machine."""

import ctypes
import fcntl
import os
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from gnnlib.benchmarks.errors import UsageError
from gnnlib.benchmarks.options import module
from gnnlib.benchmarks.request import Request
from gnnlib.benchmarks.runner.run import find_task
from gnnlib.benchmarks.tasks import Options
from gnnlib.benchmarks.tasks.large_nodes import LargeNodes
from gnnlib.large.partitions import part_config, partition_graph

GRACE = 10.0  # seconds in which the other processes may notice that one has failed


def cut(task: str, parts: int, options: Options, out: Path) -> Path:
    """Writes the parts of a task's graph.

    Args:
        task: name of a task on the nodes of one large graph
        parts: one per host
        options: of the task's data
        out: the folder for the parts

    Raises:
        UsageError: for another task, or a folder that has parts already
        ValueError: as `partition_graph`
    """
    nodes = find_task(task)
    if not isinstance(nodes, LargeNodes):
        raise UsageError(f"partition: expected a task on the nodes of one large graph, got {task}")
    if any(out.glob("*.json")):
        raise UsageError(f"--out: expected a folder without parts, {out} holds some already")
    nodes.load(options)
    return partition_graph(*nodes.partitionable(), parts, out, name=nodes.setting)


@dataclass(frozen=True)
class HostRequest(Request):
    """The options of ``host``, the same on all hosts."""

    COMMAND: ClassVar[str] = "host"

    folder: Path  # of the parts
    addresses: Sequence[str]  # of all hosts, part by part
    trainers: int = 1  # on each host
    port: int = 29500  # of the server; the next is the trainers' meeting point
    arguments: Sequence[str] = ()  # of `run`


def run(request: HostRequest) -> int:
    """Runs this host's server and trainers until the trainers end.

    If a trainer or the server dies, the others have ten seconds to end with messages of their own, and are then killed.

    Returns:
        the first bad exit status of a trainer, 0 if there is none

    Raises:
        UsageError: if the addresses do not fit the parts, or none of them is this host's
    """
    _, config = part_config(request.folder)
    if len(request.addresses) != config["num_parts"]:
        raise UsageError(
            f"--addresses: expected one for each of {config['num_parts']} parts, got {len(request.addresses)}"
        )
    number = _host_number(request.addresses)
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as hosts:
        hosts.writelines(f"{address} {request.port}\n" for address in request.addresses)
        hosts.flush()
        with _started(_commands(request, number, hosts.name)) as processes:
            return _wait(*processes)


def _host_number(addresses: Sequence[str]) -> int:
    """The number of this host's address: a host can only listen at its own."""
    for number, address in enumerate(addresses):
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            try:
                probe.bind((address, 0))
            except OSError:
                continue
            return number
    raise UsageError(f"--addresses: expected one of this host ({socket.gethostname()}), got {', '.join(addresses)}")


def _interface(address: str) -> str | None:
    """The network interface that has an address."""
    for _, name in socket.if_nameindex():
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            try:
                interface = fcntl.ioctl(probe, 0x8915, struct.pack("256s", name.encode()))  # SIOCGIFADDR
            except OSError:
                continue
            if socket.inet_ntoa(interface[20:24]) == address:
                return name
    return None


Command = tuple[list[str], dict[str, str]]


def _commands(request: HostRequest, number: int, hosts: str) -> list[Command]:
    """The commands of the server and the trainers, with their environment variables."""
    world = len(request.addresses) * request.trainers
    interface = _interface(request.addresses[number])
    common = {
        "DGL_DIST_MODE": "distributed",
        "DGL_IP_CONFIG": hosts,
        "DGL_NUM_SERVER": "1",
        "DGL_NUM_CLIENT": str(world),
        "DGL_NUM_SAMPLER": "0",
        "DGL_CONF_PATH": str(part_config(request.folder)[0]),
        "DGL_GRAPH_FORMAT": "csc",
        "MASTER_ADDR": request.addresses[0],
        "MASTER_PORT": str(request.port + 1),
        "WORLD_SIZE": str(world),
        "LOCAL_WORLD_SIZE": str(request.trainers),
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // request.trainers))),
        **({"GLOO_SOCKET_IFNAME": interface, "NCCL_SOCKET_IFNAME": interface} if interface else {}),
    }
    serve = "from gnnlib.large.partitions import open_dist_graph; import sys; open_dist_graph(sys.argv[1])"
    server = [sys.executable, "-c", serve, str(request.folder)]
    trainer = [sys.executable, "-m", module(), "run", "partitioned", "--data", str(request.folder)]
    commands = [(server, {**common, "DGL_ROLE": "server", "DGL_SERVER_ID": str(number), "OMP_NUM_THREADS": "1"})]
    for local in range(request.trainers):
        rank = {"RANK": str(number * request.trainers + local), "LOCAL_RANK": str(local)}
        commands.append(([*trainer, *request.arguments], {**common, **rank, "DGL_ROLE": "client"}))
    return commands


def _end_with_parent() -> None:
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


@contextmanager
def _started(commands: Sequence[Command]) -> Iterator[list[subprocess.Popen]]:
    processes: list[subprocess.Popen] = []
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        for words, extra in commands:
            processes.append(subprocess.Popen(words, env={**os.environ, **extra}, preexec_fn=_end_with_parent))
        yield processes
    finally:
        signal.signal(signal.SIGTERM, before)
        for process in processes:
            process.kill()
            process.wait()


def _wait(server: subprocess.Popen, *trainers: subprocess.Popen) -> int:
    """The first bad status of a trainer (128 + N where signal N ended it), 0 where there is none."""
    deadline = None
    while any(trainer.poll() is None for trainer in trainers):
        failed = any(process.poll() for process in (server, *trainers))  # a server that is done has ended well
        deadline = deadline or (time.monotonic() + GRACE if failed else None)
        if deadline and time.monotonic() > deadline:
            print("host: a process ended early; the others are killed", file=sys.stderr)
            return _status(trainers) or 1
        time.sleep(0.1)
    return _status(trainers)


def _status(processes: Sequence[subprocess.Popen]) -> int:
    bad = next((process.returncode for process in processes if process.returncode), 0)
    return bad if bad >= 0 else 128 - bad
