"""A graph on several hosts: ``partition`` cuts a task's graph, once; ``host`` is what each machine then runs."""

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

from gnnlib.benchmarks.errors import UsageError
from gnnlib.benchmarks.runner.run import find_task
from gnnlib.benchmarks.tasks import Options
from gnnlib.benchmarks.tasks.large_nodes import LargeNodes
from gnnlib.large.partitions import part_config, partition

GRACE = 10.0  # seconds in which the others may notice that one has failed


def cut(task: str, parts: int, options: Options, out: Path) -> Path:
    """Write the parts of a task's graph.

    Raises: UsageError for a task that has no one graph, or parts that are there already; what `partition` raises.
    """
    found = find_task(task)
    if not isinstance(found, LargeNodes):
        raise UsageError(f"partition: expected a task on the nodes of one large graph, got {task}")
    if any(out.glob("*.json")):
        raise UsageError(f"--out: expected a folder without parts, {out} holds some already")
    found.load(options)
    return partition(*found.whole(), parts, out, found.setting)


@dataclass(frozen=True)
class Request:
    """What a host is to do: the same words on all of them."""

    folder: Path  # of the parts
    addresses: Sequence[str]  # of all hosts, part by part
    trainers: int = 1  # on each host
    port: int = 29500  # of the server; the next is the trainers' meeting point
    arguments: Sequence[str] = ()  # of `run`


def run(request: Request) -> int:
    """This host's server and trainers, until the trainers are done; 0 where all went well.

    Where a trainer or the server dies, the others are given ten seconds to say so themselves, and are then ended.

    Raises: UsageError where the addresses do not fit the parts, or none of them is this host's.
    """
    _, config = part_config(request.folder)
    if len(request.addresses) != config["num_parts"]:
        raise UsageError(
            f"--addresses: expected one for each of {config['num_parts']} parts, got {len(request.addresses)}"
        )
    number = _own(request.addresses)
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as hosts:
        hosts.writelines(f"{address} {request.port}\n" for address in request.addresses)
        hosts.flush()
        with _started(_commands(request, number, hosts.name)) as processes:
            return _wait(*processes)


def _own(addresses: Sequence[str]) -> int:
    """Which of the addresses is this host's: one can only listen at one's own."""
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
                found = fcntl.ioctl(probe, 0x8915, struct.pack("256s", name.encode()))  # SIOCGIFADDR
            except OSError:
                continue
            if socket.inet_ntoa(found[20:24]) == address:
                return name
    return None


Command = tuple[list[str], dict[str, str]]


def _commands(request: Request, number: int, hosts: str) -> list[Command]:
    """The server's and the trainers', with what each finds in its environment."""
    world = len(request.addresses) * request.trainers
    interface = _interface(request.addresses[number])
    both = {
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
    serve = "from gnnlib.large.partitions import connect; import sys; connect(sys.argv[1])"
    server = [sys.executable, "-c", serve, str(request.folder)]
    trainer = [sys.executable, "-m", "benchmarks", "run", "partitioned", "--data", str(request.folder)]
    commands = [(server, {**both, "DGL_ROLE": "server", "DGL_SERVER_ID": str(number), "OMP_NUM_THREADS": "1"})]
    for local in range(request.trainers):
        rank = {"RANK": str(number * request.trainers + local), "LOCAL_RANK": str(local)}
        commands.append(([*trainer, *request.arguments], {**both, **rank, "DGL_ROLE": "client"}))
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
            print("host: a process has ended before its time; the others are ended too", file=sys.stderr)
            return _status(trainers) or 1
        time.sleep(0.1)
    return _status(trainers)


def _status(processes: Sequence[subprocess.Popen]) -> int:
    bad = next((process.returncode for process in processes if process.returncode), 0)
    return bad if bad >= 0 else 128 - bad
