"""Freed memory that is retained, measured by the page faults of a separate process."""

import ctypes
import subprocess
import sys

import pytest

import gnnlib

COUNT = """
import resource, statistics, torch, gnnlib
{first}
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
counts = []
for _ in range(24):
    before = faults()
    x = torch.ones(1 << 24)  # 16384 pages
    counts.append(faults() - before)
print(statistics.median_low(counts[12:]))  # some may find their gap taken by something small
"""


def pages(first):
    """Fresh pages that most arrays of 64 MiB take, made one after the other. A fork would share its parent's heap."""
    run = subprocess.run([sys.executable, "-c", COUNT.format(first=first)], capture_output=True, text=True, check=True)
    return int(run.stdout)


def glibc():
    return hasattr(ctypes.CDLL(None), "gnu_get_libc_version")


@pytest.mark.process
@pytest.mark.skipif(sys.platform != "linux" or not glibc(), reason="malloc is not glibc's")
def test_large_arrays_take_no_fresh_pages():
    retained = pages("assert gnnlib.retain_freed_memory()")
    plain = pages("")
    if plain < 1000:
        pytest.skip("this system gives huge pages, or keeps memory by itself")
    assert retained < plain / 100


@pytest.mark.parametrize("problem", [OSError, AttributeError, TypeError])
def test_other_systems_are_not_changed(monkeypatch, problem):
    def refuse(name):
        raise problem

    monkeypatch.setattr(ctypes, "CDLL", refuse)
    assert gnnlib.retain_freed_memory() is False
