"""Attacks in child processes, so that one that kills its process is noticed and counted."""

import json
import os
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

from tests.attack.audit import watch
from tests.attack.kinds import Kind, Mutation

__all__ = ["FAULTS", "KINDS", "OUTCOMES", "Job", "attack"]

ROOT = Path(__file__).parents[2]
KINDS = {
    "models": ("tests.attack.kinds.models:Models", 1000),
    "stores": ("tests.attack.kinds.stores:Stores", 500),
    "tables": ("tests.attack.kinds.tables:Tables", 500),
    "results": ("tests.attack.kinds.results:Results", 300),
    "zips": ("tests.attack.kinds.zips:Zips", 200),
}
"""Where each kind is defined, and its number of cases."""
OUTCOMES = ("refused", "same numbers", "forged")
FAULTS = ("executed", "outside", "other numbers", "other error", "unnamed", "memory", "crashed", "hangs")
MEMORY = 512  # MiB that reading a small file may take
SECONDS = 60.0  # that a case may take
SEED = 0


class Job(NamedTuple):
    """Cases of one kind, from ``first`` to before ``last``."""

    kind: str
    first: int
    last: int


def find_kind(name: str) -> Kind:
    module, _, kind = KINDS.get(name, (name,))[0].partition(":")
    return getattr(import_module(module), kind)()


# ---------------------------------------------------------------- the parent


def attack(jobs: Sequence[Job], seconds: float = SECONDS) -> Iterator[tuple[Job, int, str, str]]:
    """Runs jobs in a child process, and in another one after a crash.

    Yields:
        of each case: the job, the number, the outcome (one of `OUTCOMES` or `FAULTS`) and what happened
    """
    remaining = list(jobs)
    while remaining:
        case: tuple[Job, int] | None = None
        reason = "crashed"
        words = [f"{job.kind},{job.first},{job.last}" for job in remaining]
        command = [sys.executable, "-m", "tests.attack.run", *words]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONFAULTHANDLER": "1"}
        with (
            tempfile.TemporaryFile("w+") as errors,
            subprocess.Popen(
                command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=errors, text=True
            ) as child,
        ):
            assert child.stdout is not None
            limit = _Limit(child, seconds)
            for line in child.stdout:
                limit.restart()
                message = json.loads(line)
                job, number = remaining[message["job"]], message["case"]
                if "outcome" in message:
                    case = None
                    yield job, number, message["outcome"], message["detail"]
                else:
                    case = job, number
            limit.stop()
            status = child.wait()
            errors.seek(0)
            tail = errors.read()[-2000:]
        if limit.over:
            reason = "hangs"
        elif status == 0:
            return
        if case is None:
            raise RuntimeError(f"expected cases, got status {status} from the child: {tail}")
        job, number = case
        yield job, number, reason, f"status {status}: {tail}"
        later = remaining[remaining.index(job) + 1 :]
        remaining = [Job(job.kind, number + 1, job.last)] * (number + 1 < job.last) + later


class _Limit:
    """Kills a child that says nothing for so many seconds after its first case."""

    def __init__(self, child: subprocess.Popen, seconds: float):
        self.child, self.seconds, self.over = child, seconds, False
        self.timer: threading.Timer | None = None

    def restart(self) -> None:
        self.stop()
        self.timer = threading.Timer(self.seconds, self._end)
        self.timer.start()

    def stop(self) -> None:
        if self.timer is not None:
            self.timer.cancel()

    def _end(self) -> None:
        self.over = True
        self.child.kill()


# ---------------------------------------------------------------- the child


def main(words: Sequence[str]) -> None:
    """Runs the cases of all jobs. Writes a line before each case, and its outcome after it."""
    warnings.simplefilter("ignore")
    output, sys.stdout = sys.stdout, sys.stderr

    def send(**message: Any) -> None:
        print(json.dumps(message), file=output, flush=True)

    with tempfile.TemporaryDirectory() as top:
        os.environ["GNNLIB_CACHE"] = str(Path(top, "case", "cache"))
        os.environ.pop("GNNLIB_DATA", None)
        tempfile.tempdir = str(Path(top, "case"))
        for number, word in enumerate(words):
            name, first, last = word.split(",")
            cases = Cases(find_kind(name), Path(top, str(number)), Path(top, "case"))
            for case in range(int(first), int(last)):
                send(job=number, case=case)
                outcome, detail = cases.run(random.Random(f"{name} {SEED} {case}"))
                send(job=number, case=case, outcome=outcome, detail=detail)


class Cases:
    """The cases of a kind, and what its intact files hold."""

    def __init__(self, kind: Kind, intact: Path, folder: Path):
        self.kind, self.intact, self.folder = kind, intact, folder
        self.values = {}
        for variant in kind.variants:
            (intact / variant).mkdir(parents=True)
            kind.make(variant, intact / variant)
            for _ in range(2):  # what is imported or compiled at the first call is so now
                self._copy(variant)
                self.values[variant] = kind.read(variant, folder, Mutation("none"))

    def _copy(self, variant: str) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        shutil.copytree(self.intact / variant, self.folder)

    def run(self, draw: random.Random) -> tuple[str, str]:
        """The outcome of a case, and what happened."""
        variant = draw.choice(self.kind.variants)
        self._copy(variant)
        mutation = self.kind.mutate(variant, self.folder, draw)
        before = _reset_peak()
        outcome, detail = "same numbers", ""
        with watch(self.folder) as report:
            try:
                value = self.kind.read(variant, self.folder, mutation)
            except self.kind.errors as error:
                outcome, detail = "refused", f"{type(error).__name__}: {error}"
                if not any(name in str(error) for name in self.kind.names):
                    outcome = "unnamed"
            except Exception as error:
                outcome, detail = "other error", f"{type(error).__name__}: {error}"
            else:
                if value != self.values[variant]:
                    outcome = "forged" if mutation.forged else "other numbers"
        if report.executed:
            outcome, detail = "executed", "; ".join(report.executed[:5])
        elif report.outside:
            outcome, detail = "outside", "; ".join(report.outside[:5])
        elif _peak() - before > MEMORY:
            outcome, detail = "memory", f"{_peak() - before:.0f} MiB"
        return outcome, f"{variant} {mutation.what}: {detail}"


def _reset_peak() -> float:
    """Makes the memory of the process now, in MiB, its peak; where that is not possible the peak stays."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    return _peak()


def _peak() -> float:
    """MiB that the process has held at most. Linux counts the parent process in ru_maxrss."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) / 2**10 for line in lines if line.startswith("VmHWM"))
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # bytes, on macOS


if __name__ == "__main__":
    main(sys.argv[1:])
