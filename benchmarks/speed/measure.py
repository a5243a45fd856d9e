"""Measuring a workload: contenders with the same output take turns; their times and peak memory are a row."""

import gc
import math
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import MISSING, asdict, dataclass, field
from itertools import repeat
from typing import Any

import torch
from torch import Tensor

from gnnlib.benchmarks.peak_memory import peak, reset_peak

TOLERANCE = 1e-4  # of outputs, relative to the largest value; they are float32
BFLOAT16 = 2e-2  # the same of outputs in bfloat16
SHORTEST = 0.02  # seconds of one repetition; a faster step is called several times in a row
SLOW = 1.0  # seconds; a step that takes longer is called only once to warm up
PEERS = ("dgl", "pyg", "pyg-compiled", "edge-index", "csr", "torch", "float32", "eager")  # in the order of the table
Step = Callable[[], object]


@dataclass
class Case:
    """The contenders of one workload.

    Contenders are "gnnlib", those of `PEERS`, "dense", the same without aggregation, and "gather", the memory traffic
    of one aggregation; or, in a study of growth, the same step at several sizes. The peer "float32" is the step of
    gnnlib in float32, where "gnnlib" computes in bfloat16, and "eager" the same step in eager mode, where "gnnlib" and
    "pyg" are compiled.
    """

    steps: dict[str, Step]
    outputs: dict[str, Callable[[], Tensor]] = field(default_factory=dict)
    batches: int = 1  # in one step; figures are per batch
    sweeps: int = 0  # aggregations in one step, each at least as slow as "gather"
    moved: int = 0  # bytes that "gather" reads and writes
    factors: dict[str, float] = field(default_factory=dict)  # the size of each contender, in a study of growth
    tolerance: float = TOLERANCE  # of the differences of outputs


@dataclass(frozen=True)
class Workload:
    """A workload and its targets.

    Args:
        name: on the command line
        title: in tables
        group: a name for several workloads
        make: makes the case, from the factor by which graphs are smaller
        targets: least speed-up over each peer; "bound", least share of the memory's bound; "peak", largest share of the
            best peer's memory (default 1); "ms", most milliseconds; "exponent", largest growth
    """

    name: str
    title: str
    group: str
    make: Callable[[int], Case]
    targets: dict[str, float] = field(default_factory=dict)


class Clock:
    """Times calls, and measures their peak memory, on the CPU."""

    def seconds(self, call: Step, count: int = 1) -> float:
        """The duration of ``count`` calls."""
        start = time.perf_counter()
        for _ in range(count):
            call()
        return time.perf_counter() - start

    def reset_peak(self) -> int | None:
        """Begins a measurement of memory, and returns the bytes in use; None where the system has no such mark."""
        return reset_peak()

    def peak(self) -> int:
        """The highest number of bytes in use since `reset_peak`."""
        return peak()


class CUDAClock(Clock):
    """The same on a card: time by CUDA events, memory as PyTorch's allocator counts it."""

    def __init__(self, device: torch.device):
        self.device = device

    def seconds(self, call: Step, count: int = 1) -> float:
        start, stop = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        with torch.cuda.device(self.device):
            start.record()
            for _ in range(count):
                call()
            stop.record()
            torch.cuda.synchronize(self.device)
        return start.elapsed_time(stop) / 1e3

    def reset_peak(self) -> int:
        gc.collect()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(self.device)
        return torch.cuda.memory_allocated(self.device)

    def peak(self) -> int:
        return torch.cuda.max_memory_allocated(self.device)


CPU_CLOCK = Clock()


@dataclass(frozen=True)
class Effort:
    """The time spent on a row. A slow contender gets fewer repetitions, at least one."""

    repeats: int = 5
    budget: float = 30.0  # seconds for the repetitions of one contender
    memory: bool = True  # measure peak memory, which means little where freed memory is retained


@dataclass
class Row:
    """The figures of one workload with one allocator and number of threads. Times are in seconds, memory in bytes."""

    workload: str
    title: str
    group: str
    allocator: str
    threads: int
    seconds: dict[str, list[float]]
    peak: dict[str, int | None]
    differences: dict[str, float]
    targets: dict[str, float] = field(default_factory=dict)
    sweeps: int = 0
    moved: int = 0
    factors: dict[str, float] = field(default_factory=dict)
    device: str = "cpu"
    failures: dict[str, str] = field(default_factory=dict)  # why a contender has no figures

    def median(self, name: str) -> float | None:
        """The median time of a contender."""
        return statistics.median(self.seconds[name]) if name in self.seconds else None

    def ratio(self, peer: str) -> float | None:
        """The peer's time over ours: the median of the ratios of neighbouring repetitions."""
        if not {peer, "gnnlib"} <= self.seconds.keys():
            return None
        pairs = zip(self.seconds[peer], self.seconds["gnnlib"])  # the slower may have fewer repetitions
        return statistics.median(theirs / ours for theirs, ours in pairs)

    @property
    def bound(self) -> float | None:
        """The lower bound of the time as a share of our time: the dense part and, for each aggregation, the memory
        traffic. The median over neighbouring repetitions."""
        if not {"gather", "gnnlib"} <= self.seconds.keys():
            return None
        dense = self.seconds.get("dense") or repeat(0.0)
        turns = zip(self.seconds["gnnlib"], self.seconds["gather"], dense)
        return statistics.median((rest + self.sweeps * gather) / ours for ours, gather, rest in turns)

    @property
    def exponent(self) -> float | None:
        """p where time grows as size ** p; None outside a study of growth."""
        if len(self.factors) < 2:
            return None
        return slope([(f, statistics.median(self.seconds[name])) for name, f in self.factors.items()])

    def document(self) -> dict[str, Any]:
        """The fields and the figures derived from them, for JSON."""
        gather = self.median("gather")
        return {
            **asdict(self),
            "medians": {name: self.median(name) for name in self.seconds},
            "ratios": {peer: ratio for peer in PEERS if (ratio := self.ratio(peer)) is not None},
            "bound": self.bound,
            "gather_bandwidth": self.moved / gather if gather else None,
            "exponent": self.exponent,
        }

    @staticmethod
    def from_document(document: dict[str, Any]) -> "Row":
        """The inverse of `document`."""
        return Row(**{name: document[name] for name in Row.__dataclass_fields__ if name in document})


REQUIRED = [name for name, item in Row.__dataclass_fields__.items() if item.default is item.default_factory is MISSING]
"""The fields that each document of a row has; older documents lack others."""


def slope(points: list[tuple[float, float]]) -> float:
    """The exponent p of the power law size ** p that fits (size, time) best.

    Example:
        >>> from gnnlib.benchmarks.speed.measure import slope
        >>> slope([(1, 3.0), (4, 6.0), (16, 12.0)])
        0.5
    """
    xs, ys = ([math.log(value) for value in column] for column in zip(*points))
    return round(statistics.linear_regression(xs, ys).slope, 9)


def differences(
    title: str,
    outputs: dict[str, Callable[[], Tensor]],
    tolerance: float = TOLERANCE,
    failures: dict[str, str] | None = None,
) -> dict[str, float]:
    """The difference of each output from the first, relative to its largest value.

    Args:
        title: of the workload
        outputs: of the contenders
        tolerance: of the differences
        failures: where a contender that needs too much memory is noted; None: its error is raised

    Raises:
        ValueError: if a difference exceeds the tolerance
    """
    errors: dict[str, float] = {}
    expected = None
    for name, output in outputs.items():
        with _noted(name, failures), torch.no_grad():
            value = output()
            if expected is None:
                expected = value
                continue
            error = ((value.reshape(expected.shape) - expected).abs().max() / expected.abs().max()).item()
            if not error <= tolerance:
                raise ValueError(
                    f"{title}: expected the output of {name} to agree with gnnlib's to {tolerance:g} of its largest "
                    f"value, they differ by {error:.3g}"
                )
            errors[name] = error
    return errors


@contextmanager
def _noted(name: str, failures: dict[str, str] | None) -> Iterator[None]:
    """Notes that a contender needs more memory than the card has, or cannot be compiled."""
    try:
        yield
    except RuntimeError as error:
        memory = isinstance(error, torch.OutOfMemoryError)
        if failures is None or not (memory or name.endswith("compiled")):
            raise
        failures[name] = "out of memory" if memory else "not compiled"


def times(
    case: Case, effort: Effort, clock: Clock = CPU_CLOCK, failures: dict[str, str] | None = None
) -> tuple[dict[str, list[float]], dict[str, int | None]]:
    """The seconds of each contender's repetitions, and the peak memory of a step.

    Args:
        case: the contenders
        effort: the time to spend
        clock: of the device
        failures: contenders without figures; further ones that need too much memory are noted
    """
    peak, calls, repeats = {}, {}, {}
    for name, step in case.steps.items():
        if name in (failures or ()):
            continue
        with _noted(name, failures):
            elapsed, peak[name] = measure_step(step, effort.memory, clock)
            if elapsed < SLOW or name == "gnnlib":  # the first call may have compiled, and filled caches
                elapsed, peak[name] = measure_step(step, effort.memory, clock)
            calls[name] = max(1, math.ceil(SHORTEST / elapsed))
            repeats[name] = max(1, min(effort.repeats, int(effort.budget / (elapsed * calls[name]))))
    seconds: dict[str, list[float]] = {name: [] for name in repeats}
    for turn in range(effort.repeats):
        for name in repeats:
            if turn < repeats[name]:
                seconds[name].append(clock.seconds(case.steps[name], calls[name]) / (calls[name] * case.batches))
    return seconds, peak


def measure_step(step: Step, memory: bool, clock: Clock = CPU_CLOCK) -> tuple[float, int | None]:
    """The seconds of one call, and the bytes by which it raised the peak memory of this process."""
    before = clock.reset_peak() if memory else None
    elapsed = clock.seconds(step)
    return elapsed, None if before is None else clock.peak() - before
