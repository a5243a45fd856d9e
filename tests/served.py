"""Functions of a module in a process of its own, which other settings need, called one by one by tests."""

import importlib
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from multiprocessing.connection import Client, Listener
from pathlib import Path

import pytest

from tests.forks import ForkServer


@contextmanager
def served(server: ForkServer, folder: Path, module: str, **env: str) -> Iterator[Callable[..., None]]:
    """Calls a function of a module's ``FUNCTIONS`` by its name, in its context ``setting``; fails with its exception.

    Args:
        server: forks the process, and waits for its end
        folder: of the program, its outputs and the socket
        module: its name
        env: variables of the process
    """
    program = folder / "program.py"
    with Listener(str(folder / "socket")) as listener:
        program.write_text(f"from tests.served import serve\n\nserve({listener.address!r}, {module!r})\n")
        process = server.start(program, env={"OMP_NUM_THREADS": "1", **env}, seconds=900)
        with listener.accept() as connection:

            def call(function: str, *arguments: object) -> None:
                connection.send((function, *arguments))
                error = connection.recv()
                if error:
                    pytest.fail(error, pytrace=False)

            yield call
            connection.send(None)
        assert process.wait().returncode == 0


def serve(address: str, module: str) -> None:
    """Answers requests with None, or with the text of an exception, until None is requested."""
    functions: Mapping[str, Callable[..., None]] = importlib.import_module(module).FUNCTIONS
    with Client(address) as connection, importlib.import_module(module).setting():
        while (request := connection.recv()) is not None:
            name, *arguments = request
            try:
                functions[name](*arguments)
                connection.send(None)
            except Exception:
                connection.send(traceback.format_exc())
