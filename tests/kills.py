"""Kills runs, conversions, studies and data-parallel trainings at random moments, repeats the command each time, and
compares the figures with those of an uninterrupted one. Then tries installations that are hard to write to.

    python -m tests.kills                      # all of it, about twenty minutes on two cores
    python -m tests.kills run store --times 5 --seed 1
    python -m tests.kills cache --times 20     # four processes fill an empty cache of kernels at once

run       20 kills of ``benchmarks run digits``
store     20 kills of `gnnlib.images.images_to_store` with two spawned workers
depth     10 kills of ``benchmarks depth``
tune      10 kills of ``benchmarks depth --tune``
torchrun  10 kills of two processes that train one network: of all, or of one of them
cache     20 rounds of four processes that compile the same kernels at once
readonly  a run, a store and kernels where the installation cannot be written to, without a home

Exits with 0 if all figures are the same and nothing is left behind.
"""

import argparse
import contextlib
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).parents[1]
SAME = ("seeds", "metric", "validation", "parameters", "curves", "confusion", "command")  # of a result
TIMES = ("seconds", "when", "commits")  # of a depth study, which differ
STARTS = 5.0  # seconds that a process takes to begin, about


@dataclass(frozen=True)
class Job:
    """Something that is killed.

    Args:
        command: its words, for a folder of results
        progress: how far it is, in parts that are not lost again, and after which it ends
        figures: what must be the same
        times: kills by default
        total: the progress at the end, if the figures do not tell
    """

    command: Callable[[Path], list[str]]
    progress: Callable[[Path], int]
    figures: Callable[[Path], Any]
    times: int = 20
    total: int | None = None

    def start(self, out: Path) -> subprocess.Popen:
        environment = {**os.environ, "GIT_DIR": os.devnull, "OMP_NUM_THREADS": "1"}  # an edit is no other code
        return subprocess.Popen(
            [sys.executable, *self.command(out)],
            cwd=ROOT,
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )


# ---------------------------------------------------------------- benchmark runs


def figures(out: Path) -> dict[str, Any]:
    """What must be the same in a run, by layer."""
    results = {path: json.loads(path.read_text()) for path in sorted(out.glob("*/*/result.json"))}
    assert results
    return {str(path.relative_to(out)): {key: result[key] for key in SAME} for path, result in results.items()}


def epochs_done(out: Path) -> list[tuple[str, int, int]]:
    """The finished epochs of each seed of each layer, from the logs."""
    lines = [(path.parent, line) for path in out.glob("*/*/log.jsonl") for line in path.read_text().splitlines()]
    records = [(folder, json.loads(line)) for folder, line in lines if line.endswith("}")]
    return sorted((folder.name, record["seed"], record["epoch"]) for folder, record in records)


def run_job(words: list[str], before: tuple[str, ...] = ("-m",), times: int = 20) -> Job:
    """A job of ``benchmarks run``."""
    return Job(
        lambda out: [*before, "benchmarks", "run", *words, "--out", str(out)],
        lambda out: len(epochs_done(out)),
        lambda out: (figures(out), epochs_done(out)),
        times,
    )


# ---------------------------------------------------------------- stores and depth studies

STORE = """
import sys
import numpy as np
from gnnlib.images import images_to_store, recipes
images = np.random.default_rng(0).random((4000, 28, 28))
images_to_store(images, recipes.avelar, sys.argv[1], labels=np.arange(4000), workers=2)
"""


def store_files(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in out.iterdir() if path.is_file() and path.name != "lock"}


def study_rows(out: Path) -> list[dict[str, Any]]:
    (path,) = out.glob("*/results.json")
    rows = [without_times(row) for row in json.loads(path.read_text())["rows"]]
    return [row | {"trials": [without_times(trial) for trial in row.get("trials", ())]} for row in rows]


def without_times(record: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in record.items() if name not in TIMES}


def lines(out: Path, pattern: str) -> int:
    return sum(path.read_bytes().count(b"\n") for path in out.glob(pattern))


STUDY = [
    *("-m", "benchmarks", "depth", "digits", "--convs", "gcn,mlp", "--remedies", "none,residual", "--depths", "2,4"),
    *("--seeds", "3", "--epochs", "30", "--width", "16", "--jobs", "2", "--out"),
]
TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m")

JOBS = {
    "run": run_job(["digits", "--limit", "200", "--epochs", "40", "--seeds", "3", "--layers", "gcn,gat"]),
    "store": Job(
        lambda out: ["-c", STORE, str(out)], lambda out: len(list(out.glob("parts/*/*.npz"))), store_files, total=13
    ),
    "depth": Job(lambda out: [*STUDY, str(out)], lambda out: lines(out, "*/cells.jsonl"), study_rows, 10),
    "tune": Job(lambda out: [*STUDY, str(out), "--tune", "3"], lambda out: lines(out, "*/*.jsonl"), study_rows, 10),
    "torchrun": run_job(
        ["planted", "--limit", "3000", "--mode", "sampled", "--epochs", "12", "--layers", "gcn", "--seeds", "2"],
        TORCHRUN,
        10,
    ),
}


# ---------------------------------------------------------------- kills


def kill(process: subprocess.Popen, draw: random.Random) -> None:
    """Kills a process and all that it started. In one of three cases one of these dies a moment before the others."""
    family = psutil.Process(process.pid).children(recursive=True)
    victims = [psutil.Process(process.pid), *family]
    if family and draw.randrange(3) == 0:
        victims.insert(0, draw.choice(family))
    for number, victim in enumerate(victims):
        with contextlib.suppress(psutil.NoSuchProcess):
            victim.kill()
        time.sleep(draw.uniform(0, 1) if number == 0 and len(victims) > len(family) + 1 else 0)
    psutil.wait_procs(family, timeout=60)


def kills(job: Job, out: Path, times: int, total: int, draw: random.Random) -> Iterator[int]:
    """Starts the command and kills it, so many times: some progress later, and a moment more. Where it ends before, it
    begins again in an empty folder.

    Args:
        job: what is killed
        out: the folder of results
        times: number of kills
        total: the progress of an uninterrupted run
        draw: of the random moments

    Yields:
        the progress after each kill
    """
    remaining = times
    while remaining:
        done = job.progress(out)
        target = done + draw.randint(0, max(0, (total - done) // (remaining + 1)))
        process = job.start(out)
        while process.poll() is None and job.progress(out) < target:
            time.sleep(0.01)
        time.sleep(draw.uniform(0, STARTS if target == done else 0.1))
        if process.poll() is None:
            kill(process, draw)
            process.communicate()
            remaining -= 1
            yield job.progress(out)
            continue
        errors = process.communicate()[1].decode()
        if process.returncode:
            raise RuntimeError(f"the command ended by itself, with {process.returncode}: {errors}")
        shutil.rmtree(out)


def killed(name: str, job: Job, times: int, draw: random.Random) -> bool:
    """Whether a job ends with the figures of an uninterrupted one after so many kills."""
    with tempfile.TemporaryDirectory() as folder:
        reference, out = Path(folder) / "reference", Path(folder) / "killed"
        begin = time.perf_counter()
        process = job.start(reference)
        errors = process.communicate()[1].decode()
        if process.returncode:
            raise SystemExit(f"{name} ended with {process.returncode}: {errors}")
        seconds, total = time.perf_counter() - begin, job.total or job.progress(reference)
        print(f"{name}: uninterrupted, {seconds:.0f} s", flush=True)
        out.mkdir()
        for number, done in enumerate(kills(job, out, times, total, draw), 1):
            print(f"{name}: kill {number}, {done} of {total} done", flush=True)
        process = job.start(out)
        errors = process.communicate()[1].decode()
        same = process.returncode == 0 and job.figures(out) == job.figures(reference)
        rest = sorted({str(path.relative_to(out)) for path in out.rglob("*") if _is_part(path)})
        print(f"{name}: {times} kills, {'the same figures' if same else 'OTHER FIGURES ' + errors}", *rest, flush=True)
        return same and not rest


def _is_part(path: Path) -> bool:
    """Whether a file is a part of an unfinished one."""
    return path.suffix == ".checkpoint" or path.name[0] == "." or path.name == "parts"


# ---------------------------------------------------------------- installations

COMPILE = """
import hashlib, sys, time
from pathlib import Path
import torch
from gnnlib import aggregate
from gnnlib._platform.dgl import dgl
torch.manual_seed(0)
graph = dgl.graph(tuple(torch.randint(50, (2, 400))), num_nodes=50)
Path(sys.argv[1]).touch()
while len(list(Path(sys.argv[1]).parent.glob("ready-*"))) < int(sys.argv[2]):
    time.sleep(0.001)
digest = hashlib.sha256()
x = torch.rand(50, 8, requires_grad=True)
y = aggregate(graph, x)
digest.update(y.detach().numpy().tobytes() + torch.autograd.grad(y.square().sum(), x)[0].numpy().tobytes())
print(digest.hexdigest())
"""


def filled_at_once(times: int, number: int = 4) -> bool:
    """Whether processes that compile the same kernels into an empty cache at once all get the same numbers."""
    digests, bad = set(), 0
    for turn in range(1, times + 1):
        with tempfile.TemporaryDirectory() as folder:
            environment = os.environ | {"NUMBA_CACHE_DIR": f"{folder}/cache", "OMP_NUM_THREADS": "1"}
            processes = [
                subprocess.Popen(
                    [sys.executable, "-c", COMPILE, f"{folder}/ready-{i}", str(number)],
                    cwd=ROOT,
                    env=environment,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    text=True,
                )
                for i in range(number)
            ]
            for process in processes:
                output, errors = process.communicate(timeout=600)
                digests.add(output.strip())
                if process.returncode or "damaged" in errors or "cannot be cached" in errors:
                    bad += 1
                    print(errors, flush=True)
            print(f"cache: round {turn}, {len(digests)} different results, {bad} errors", flush=True)
    return len(digests) == 1 and not bad


def readonly() -> bool:
    """Whether a run, a store and kernels work without a home, where the installation cannot be written to."""
    store = STORE.replace("4000", "40").replace("workers=2", "workers=1")
    words = ["digits", "--limit", "64", "--epochs", "2", "--seeds", "1", "--layers", "gcn", "--save"]
    without_rights = ["setpriv", "--inh-caps=-all", "--bounding-set=-all"] if os.geteuid() == 0 else []
    good = True
    with tempfile.TemporaryDirectory() as folder:
        installed, out = Path(folder) / "installed", Path(folder) / "out"
        out.mkdir()
        shutil.copytree(ROOT / "gnnlib", installed / "gnnlib", ignore=shutil.ignore_patterns("__pycache__"))
        _chmod(installed, 0o555, 0o444)
        for name, command in {
            "run": ["-m", "gnnlib.benchmarks", "run", *words, "--out", str(out / "run")],
            "store": ["-c", store, str(out / "store")],
            "kernels": ["-c", COMPILE, str(out / "ready-0"), "1"],
        }.items():
            result = subprocess.run(
                [*without_rights, sys.executable, *command],
                cwd=out,
                env={"PATH": os.environ["PATH"], "PYTHONPATH": str(installed), "HOME": str(installed / "home")},
                capture_output=True,
                text=True,
                timeout=600,
            )
            clean = result.returncode == 0 and "Traceback" not in result.stderr
            print(f"readonly: {name}: {'clean' if clean else result.returncode} {result.stderr.strip()}", flush=True)
            good = good and clean
        written = [path for path in installed.rglob("*") if path.name == "__pycache__"]
        print("readonly: written into the installation:", written or "nothing", flush=True)
        _chmod(installed, 0o755, 0o644)
    return good and not written


def _chmod(folder: Path, folders: int, files: int) -> None:
    for path in (folder, *folder.rglob("*")):
        path.chmod(folders if path.is_dir() else files)


def main(arguments: list[str] | None = None) -> int:
    choices = [*JOBS, "cache", "readonly"]
    parser = argparse.ArgumentParser(prog="python -m tests.kills", description=__doc__.split("\n\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(choices)} (all)")
    parser.add_argument("--times", type=int, metavar="N", help="kills, or rounds (20; depth, tune and torchrun 10)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the random moments (0)")
    options = parser.parse_args(arguments)
    if unknown := set(options.names) - set(choices):
        parser.error(f"expected names among {', '.join(choices)}, got {', '.join(sorted(unknown))}")
    good = {}
    for name in options.names or choices:
        if name in JOBS:
            good[name] = killed(name, JOBS[name], options.times or JOBS[name].times, random.Random(options.seed))
        else:
            good[name] = filled_at_once(options.times or 20) if name == "cache" else readonly()
    print(", ".join(f"{name}: {'good' if value else 'BAD'}" for name, value in good.items()))
    return 0 if all(good.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
