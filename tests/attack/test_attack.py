"""The attacks, in part, and that the harness notices each fault."""

from collections import Counter

import pytest

from tests.attack.__main__ import table
from tests.attack.run import FAULTS, KINDS, OUTCOMES, Job, attack

pytestmark = pytest.mark.process


def test_mutated_files_of_all_kinds():
    """A small part of ``python -m tests.attack``, in one process."""
    cases = {"models": 16, "stores": 16, "tables": 16, "results": 16, "zips": 8}
    outcomes = list(attack([Job(name, 0, number) for name, number in cases.items()]))
    faults = [(job.kind, number, outcome, detail) for job, number, outcome, detail in outcomes if outcome in FAULTS]
    assert not faults, faults
    counts = Counter((job.kind, outcome) for job, _, outcome, _ in outcomes)
    assert Counter(job.kind for job, *_ in outcomes) == cases
    assert cases.keys() == KINDS.keys()
    for name, number in cases.items():
        assert counts[name, "refused"] > number // 4


def test_each_fault_is_noticed():
    """And the cases after it are tried."""
    names = [outcome.replace(" ", "_") for outcome in (*OUTCOMES, *FAULTS)]
    jobs = [Job(f"tests.attack.kinds.fakes:{name}", 0, 2 if name in ("executed", "crashed") else 1) for name in names]
    outcomes = list(attack(jobs, seconds=6.0))
    assert [(job.kind, number) for job, number, _, _ in outcomes] == [
        (job.kind, number) for job in jobs for number in range(job.last)
    ]
    for job, _, outcome, detail in outcomes:
        assert outcome.replace(" ", "_") == job.kind.partition(":")[2], detail


def test_the_table_counts_every_outcome():
    text = table({"zips": Counter({"refused": 3, "crashed": 2, "same numbers": 1})})
    names, numbers = text.splitlines()
    assert numbers.split()[:2] == ["zips", "6"]
    assert [name for name in (*OUTCOMES, *FAULTS) if name not in names] == []
    assert sorted(map(int, numbers.split()[1:])) == sorted([6, 3, 2, 1, *[0] * 8])
