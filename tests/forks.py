"""Runs Python programs in processes forked from one that has imported PyTorch, DGL and gnnlib.

A program runs as in a process of its own, with other environment variables and folder, but without the three seconds of
the imports. numba is not among them, so the variables that it reads when it is imported apply too. A variable that
PyTorch or OpenMP reads, or another gnnlib, needs a new interpreter.
"""

import contextlib
import json
import os
import runpy
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "GNNLIB_DATA"}  # before fixtures change it


class Program(NamedTuple):
    """A running program, and the files with what it prints."""

    server: subprocess.Popen
    pid: int
    stdout: Path
    stderr: Path

    def wait(self) -> subprocess.CompletedProcess:
        """Waits for the end, which comes at the latest after the seconds of `ForkServer.start`."""
        status = _ask(self.server, {"wait": self.pid})
        return subprocess.CompletedProcess([], status, self.stdout.read_text(), self.stderr.read_text())


class ForkServer:
    """The process that is forked."""

    def __init__(self, server: subprocess.Popen):
        self.server = server

    def start(self, program: Path, *arguments: str, env: dict[str, str], seconds: int = 120) -> Program:
        """Starts a program in its folder, with its outputs in files beside it."""
        name = "-".join([program.stem, *arguments])
        files = [str(program.with_name(name + suffix)) for suffix in (".out", ".err")]
        request = {"argv": [str(program), *arguments], "env": env, "files": files, "seconds": seconds}
        return Program(self.server, _ask(self.server, request), *map(Path, files))


@contextlib.contextmanager
def fork_server() -> Iterator[ForkServer]:
    """A server for the time of the context."""
    command = [sys.executable, "-m", "tests.forks"]
    pipes = dict(stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    with subprocess.Popen(command, cwd=ROOT, env=ENVIRONMENT, **pipes) as server:
        yield ForkServer(server)
        server.stdin.close()  # type: ignore[union-attr]


def _ask(server: subprocess.Popen, request: dict) -> int:
    server.stdin.write(json.dumps(request) + "\n")  # type: ignore[union-attr]
    server.stdin.flush()  # type: ignore[union-attr]
    answer = server.stdout.readline()  # type: ignore[union-attr]
    assert answer, "the server of forks has ended"
    return int(answer)


def serve() -> list[str] | None:
    """Answers requests; in a forked child, its arguments."""
    for line in sys.stdin:
        request = json.loads(line)
        if "wait" in request:
            answer = os.waitstatus_to_exitcode(os.waitpid(request["wait"], 0)[1])
        else:
            answer = os.fork()
            if answer == 0:
                return become(**request)
        print(answer, flush=True)
    return None


def become(argv: list[str], env: dict[str, str], files: list[str], seconds: int) -> list[str]:
    """Makes this process that of a program."""
    signal.alarm(seconds)
    for number, file in enumerate([os.devnull, *files]):
        opened = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC if number else os.O_RDONLY)
        os.dup2(opened, number)
        os.close(opened)
    os.environ.update(env)
    os.chdir(Path(argv[0]).parent)
    sys.argv[:] = argv
    return argv


if __name__ == "__main__":
    import gnnlib  # noqa: F401

    program = serve()
    if program is not None:
        runpy.run_path(program[0], run_name="__main__")
