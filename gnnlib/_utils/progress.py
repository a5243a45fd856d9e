"""Progress bars on the standard error stream, with the time left: rich's, which is imported at the first bar."""

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from datetime import timedelta
from importlib.util import find_spec
from typing import Any, TypeVar

__all__ = ["EVERY", "ProgressBar", "clock", "columns", "track"]

T = TypeVar("T")

EVERY = 60.0  # seconds between two lines where there is no terminal


def clock(seconds: float | None) -> str:
    """A time in hours, minutes and seconds.

    Example:
        >>> from gnnlib._utils.progress import clock
        >>> clock(3725.9), clock(None)
        ('1:02:05', '-:--:--')
    """
    return "-:--:--" if seconds is None else str(timedelta(seconds=int(seconds)))


def columns(count: str | None = None, seconds_left: Callable[[Any], float | None] | None = None) -> list[Any]:
    """The columns of every bar: description, bar, count, time so far, time left.

    Args:
        count: the count in the markup of rich; None: the number completed of all
        seconds_left: seconds left of a task of rich; None: by its speed
    """
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        ProgressColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )
    from rich.text import Text

    class TimeLeft(ProgressColumn):
        def render(self, task: Any) -> Text:
            assert seconds_left is not None
            return Text(clock(seconds_left(task)), style="progress.remaining")

    shown = MofNCompleteColumn() if count is None else TextColumn(count)
    remaining = TimeRemainingColumn() if seconds_left is None else TimeLeft()
    return [TextColumn("{task.description}"), BarColumn(), shown, TimeElapsedColumn(), TextColumn("left"), remaining]


class ProgressBar:
    """A bar in a terminal, and in a notebook with ipywidgets. Elsewhere it is silent, or prints lines: at most one a
    minute, and one at the end.

    Args:
        description: of what is counted
        total: number of steps; None: unknown
        done: number of steps that were done before
        lines: whether to print lines where there is no bar

    Example:
        >>> from gnnlib._utils.progress import ProgressBar
        >>> with ProgressBar("images", 3) as bar:
        ...     bar.advance(2, "30 segments")
    """

    def __init__(self, description: str, total: int | None, *, done: int = 0, lines: bool = False):
        from rich.console import Console
        from rich.progress import Progress, TextColumn

        console = Console(stderr=True)
        shown = console.is_terminal or (console.is_jupyter and find_spec("ipywidgets") is not None)
        self.description, self.total, self.lines = description, total, lines and not shown
        self.start = self.printed = time.monotonic()
        self.first = self.done = done
        self.note = ""
        self.bars = Progress(
            *columns(), TextColumn("{task.fields[note]}"), console=console, disable=not shown, speed_estimate_period=600
        )
        self.task = self.bars.add_task(description, total=total, completed=done, note="")

    def __enter__(self) -> "ProgressBar":
        self.bars.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.bars.stop()
        if self.lines and self.done > self.first:
            self._print()

    def advance(self, steps: int = 1, note: str = "") -> None:
        """Count further steps.

        Args:
            steps: number of steps
            note: shown after the bar
        """
        self.done, self.note = self.done + steps, note
        self.bars.update(self.task, completed=self.done, note=note)
        if self.lines and time.monotonic() - self.printed >= EVERY:
            self._print()

    def _print(self) -> None:
        self.printed = time.monotonic()
        so_far = self.printed - self.start
        parts = [str(self.done) if self.total is None else f"{self.done} of {self.total}", self.note, clock(so_far)]
        if self.total is not None:
            parts.append(f"{clock(so_far / (self.done - self.first) * (self.total - self.done))} left")
        print(f"{self.description}: {', '.join(filter(None, parts))}", file=sys.stderr)


def track(items: Iterable[T], description: str, total: int | None = None) -> Iterator[T]:
    """Iterate with a `ProgressBar`.

    Example:
        >>> from gnnlib._utils.progress import track
        >>> list(track("ab", "letters"))
        ['a', 'b']
    """
    with ProgressBar(description, total, lines=True) as bar:
        for item in items:
            yield item
            bar.advance()
