"""Readers with each fault, which the harness must notice."""

import os
import time
from functools import partial

from tests.attack.kinds import Kind, Mutation
from tests.attack.run import FAULTS, OUTCOMES


class Fake(Kind):
    """A file whose mutants say what the reader does with them."""

    names = ("file",)

    def __init__(self, outcome):
        self.outcome = outcome

    def make(self, variant, folder):
        (folder / "file").write_text("same numbers")

    def mutate(self, variant, folder, draw):
        (folder / "file").write_text(self.outcome)
        return Mutation(self.outcome, forged=self.outcome == "forged")

    def read(self, variant, folder, mutation):
        path = folder / "file"
        return READERS[path.read_text()](path)


def refuse(path):
    raise ValueError(f"{path}: expected another")


def refuse_without_name(path):
    raise ValueError("expected another")


def fail(path):
    raise KeyError("file")


def execute(path):
    exec("1 + 1")
    return 1


def read_outside(path):
    open(os.devnull).close()
    return 1


def inflate(path):
    return len(bytearray(b"x") * (640 * 2**20)) // (640 * 2**20)


def abort(path):
    os.abort()


def hang(path):
    time.sleep(60)


READERS = {
    "refused": refuse,
    "same numbers": lambda path: 1,
    "forged": lambda path: 2,
    "other numbers": lambda path: 2,
    "other error": fail,
    "unnamed": refuse_without_name,
    "executed": execute,
    "outside": read_outside,
    "memory": inflate,
    "crashed": abort,
    "hangs": hang,
}
assert READERS.keys() == {*OUTCOMES, *FAULTS}
globals().update({outcome.replace(" ", "_"): partial(Fake, outcome) for outcome in READERS})
