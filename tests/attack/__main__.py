"""Attacks the readers of the library with mutated files, and prints how many were refused.

    python -m tests.attack                        # all kinds, under five minutes on two cores
    python -m tests.attack --kinds stores,zips --scale 0.1
    python -m tests.attack --kinds models --first 17 --cases 1    # one case again

Exits with 0 if nothing was executed, nothing outside was read or written, no process crashed, no error was another
than the promised one, and no damaged file gave other numbers. The seeds are in the code: each run has the same cases.
"""

import argparse
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

from tests.attack.run import FAULTS, KINDS, OUTCOMES, Job, attack

CHUNK = 500  # cases of a child


def main(arguments=None):
    parser = argparse.ArgumentParser(
        prog="python -m tests.attack", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kinds", default=",".join(KINDS), help="of files (all)")
    parser.add_argument("--scale", type=float, default=1.0, help="factor of the numbers of cases (1)")
    parser.add_argument("--first", type=int, default=0, help="number of the first case (0)")
    parser.add_argument("--cases", type=int, help="of each kind")
    parser.add_argument("--workers", type=int, default=2, help="child processes at a time (2)")
    parser.add_argument("--verbose", action="store_true", help="print every case")
    options = parser.parse_args(arguments)
    start, names = time.monotonic(), options.kinds.split(",")
    jobs = []
    for name in names:
        last = options.first + (options.cases or max(1, round(KINDS[name][1] * options.scale)))
        jobs += [Job(name, first, min(first + CHUNK, last)) for first in range(options.first, last, CHUNK)]
    counts = {name: Counter() for name in names}

    def run(job):
        for _, number, outcome, detail in attack([job]):
            counts[job.kind][outcome] += 1
            if options.verbose or outcome in FAULTS:
                print(f"{job.kind} {number}: {outcome}: {detail}", flush=True)

    with ThreadPoolExecutor(options.workers) as pool:
        list(pool.map(run, jobs))
    print(table(counts))
    print(f"{sum(map(Counter.total, counts.values()))} cases in {time.monotonic() - start:.0f} s")
    return int(any(count[fault] for count in counts.values() for fault in FAULTS))


def table(counts):
    columns = ("cases", *OUTCOMES, *FAULTS)
    lines = ["".join(f"{name:>{max(9, len(name) + 2)}}" for name in ("kind", *columns))]
    for name, count in counts.items():
        numbers = (name, count.total(), *(count[outcome] for outcome in columns[1:]))
        lines.append("".join(f"{n:>{max(9, len(c) + 2)}}" for n, c in zip(numbers, ("kind", *columns))))
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
