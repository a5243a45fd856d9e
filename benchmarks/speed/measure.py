"""Measuring a workload: contenders with the same output take turns; their times and peak memory are a row."""

import math
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from itertools import repeat
from typing import Any

import torch
from torch import Tensor

from gnnlib.benchmarks.peak_memory import peak, reset_peak

TOLERANCE = 1e-4  # of outputs, relative to the largest value; they are float32
BFLOAT16 = 2e-2  # the same of outputs in bfloat16
SHORTEST = 0.02  # seconds of one repetition; a faster step is called several times in a row
SLOW = 1.0  # seconds; a step that takes longer is called only once to warm up
PEERS = ("dgl", "pyg", "edge-index", "csr", "torch", "float32", "eager")  # in the order of the table
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
        return Row(**{name: document[name] for name in Row.__dataclass_fields__})


def slope(points: list[tuple[float, float]]) -> float:
    """The exponent p of the power law size ** p that fits (size, time) best.

    Example:
        >>> from gnnlib.benchmarks.speed.measure import slope
        >>> slope([(1, 3.0), (4, 6.0), (16, 12.0)])
        0.5
    """
    xs, ys = ([math.log(value) for value in column] for column in zip(*points))
    return round(statistics.linear_regression(xs, ys).slope, 9)


def differences(title: str, outputs: dict[str, Callable[[], Tensor]], tolerance: float = TOLERANCE) -> dict[str, float]:
    """The difference of each output from the first, relative to its largest value.

    Raises:
        ValueError: if a difference exceeds the tolerance
    """
    errors: dict[str, float] = {}
    expected = None
    for name, output in outputs.items():
        with torch.no_grad():
            value = output()
        if expected is None:
            expected = value
            continue
        error = ((value.reshape(expected.shape) - expected).abs().max() / expected.abs().max()).item()
        if not error <= tolerance:
            raise ValueError(
                f"{title}: expected the output of {name} to agree with gnnlib's to {tolerance:g} of its largest value, "
                f"they differ by {error:.3g}"
            )
        errors[name] = error
    return errors


def times(case: Case, effort: Effort) -> tuple[dict[str, list[float]], dict[str, int | None]]:
    """The seconds of each contender's repetitions, and the peak memory of a step."""
    seconds: dict[str, list[float]] = {name: [] for name in case.steps}
    peak, calls, repeats = {}, {}, {}
    for name, step in case.steps.items():
        elapsed, peak[name] = measure_step(step, effort.memory)
        if elapsed < SLOW or name == "gnnlib":  # the first call may have compiled, and filled caches
            elapsed, peak[name] = measure_step(step, effort.memory)
        calls[name] = max(1, math.ceil(SHORTEST / elapsed))
        repeats[name] = max(1, min(effort.repeats, int(effort.budget / (elapsed * calls[name]))))
    for turn in range(effort.repeats):
        for name, step in case.steps.items():
            if turn < repeats[name]:
                start = time.perf_counter()
                for _ in range(calls[name]):
                    step()
                seconds[name].append((time.perf_counter() - start) / (calls[name] * case.batches))
    return seconds, peak


def measure_step(step: Step, memory: bool) -> tuple[float, int | None]:
    """The seconds of one call, and the bytes by which it raised the peak memory of this process."""
    before = reset_peak() if memory else None
    start = time.perf_counter()
    step()
    elapsed = time.perf_counter() - start
    return elapsed, None if before is None else peak() - before
