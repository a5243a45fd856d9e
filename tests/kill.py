"""Kills a run at random moments, repeats the command each time, and compares the results with an uninterrupted run.

    python -m tests.kill                       # digits, 20 times, about three minutes on one core
    python -m tests.kill --times 5 --seed 1 digits-superpixels --limit 200 --epochs 20 --layers sage
    python -m tests.kill ogbg-molhiv --limit 600 --epochs 12 --layers gin --seeds 2 --data DIR
    python -m tests.kill planted --limit 3000 --mode sampled --epochs 12 --layers gcn --seeds 2

Exits with 0 if all results are the same.
"""

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
RUN = ["digits", "--limit", "200", "--epochs", "40", "--seeds", "3", "--layers", "gcn,gat"]
SAME = ("seeds", "metric", "validation", "parameters", "curves", "confusion", "command")
STARTS = 5.0  # seconds that a process takes to begin, about


def start(*words):
    environment = {**os.environ, "GIT_DIR": os.devnull}  # so that an edit meanwhile does not count as other code
    command = [sys.executable, "-m", "benchmarks", "run", *words]
    return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def figures(out):
    """What must be the same, by run and layer."""
    results = {path: json.loads(path.read_text()) for path in sorted(out.glob("*/*/result.json"))}
    assert results
    return {str(path.relative_to(out)): {key: result[key] for key in SAME} for path, result in results.items()}


def epochs_done(out):
    """The finished epochs of each seed of each layer, from the logs."""
    lines = [(path.parent, line) for path in out.glob("*/*/log.jsonl") for line in path.read_text().splitlines()]
    records = [(folder, json.loads(line)) for folder, line in lines if line.endswith("}")]
    return sorted((folder.name, record["seed"], record["epoch"]) for folder, record in records)


def kill_runs(words, out, times, epochs, draw):
    """Starts the command so many times and kills it each time: some epochs later, and a moment more. ``epochs`` are in
    the whole run, which does not end on this way. Yields how many are done after each kill."""
    for remaining in range(times, 0, -1):
        done = len(epochs_done(out))
        target = done + draw.randint(0, max(0, (epochs - done) // (remaining + 1)))
        process = start(*words, "--out", str(out))
        while process.poll() is None and len(epochs_done(out)) < target:
            time.sleep(0.01)
        time.sleep(draw.uniform(0, STARTS if target == done else 0.1))
        ended = process.poll()
        process.kill()
        errors = process.communicate()[1].decode()
        if ended is not None:
            raise RuntimeError(f"the run ended by itself, with {ended}: {errors}")
        yield len(epochs_done(out))


def main(arguments=None):
    parser = argparse.ArgumentParser(prog="python -m tests.kill", description=__doc__.split("\n\n")[0])
    parser.add_argument("--times", type=int, default=20, metavar="N", help="kills (20)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the random moments (0)")
    parser.add_argument("words", nargs=argparse.REMAINDER, help=f"of 'benchmarks run' (default: {' '.join(RUN)})")
    options = parser.parse_args(arguments)
    words = options.words or RUN
    with tempfile.TemporaryDirectory() as folder:
        reference, killed = Path(folder) / "reference", Path(folder) / "killed"
        print("an uninterrupted run", flush=True)
        if start(*words, "--out", str(reference)).wait():
            raise SystemExit(f"it ended with an error: python -m benchmarks run {' '.join(words)}")
        epochs, draw = len(epochs_done(reference)), random.Random(options.seed)
        for number, done in enumerate(kill_runs(words, killed, options.times, epochs, draw), 1):
            print(f"kill {number}: {done} of {epochs} epochs done", flush=True)
        start(*words, "--out", str(killed)).wait()
        same = figures(killed) == figures(reference) and epochs_done(killed) == epochs_done(reference)
        remains = [str(path) for path in killed.rglob("*") if path.suffix == ".checkpoint" or path.name[0] == "."]
        print(f"after {options.times} kills: {'the same figures' if same else 'other figures'}", *remains, flush=True)
    return 0 if same and not remains else 1


if __name__ == "__main__":
    sys.exit(main())
