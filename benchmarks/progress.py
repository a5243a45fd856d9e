"""What a run shows in the terminal: bars and a live leaderboard, or plain lines where there is no terminal."""

from collections.abc import Sequence
from types import TracebackType

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bars
from rich.table import Table


class Progress:
    """A bar over all trainings of a run, one over the epochs of the present one, and the leaderboard so far."""

    def __init__(self, title: str, total: int, done: int):
        self.console = Console()
        self.bars = Bars(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=self.console,
            speed_estimate_period=600,  # seconds: a training that is slower than the one before counts, too
        )
        self.done = done
        self.all = self.bars.add_task(title, total=total, completed=done)
        self.one = self.bars.add_task("", total=None, visible=False)
        self.table: RenderableType = ""
        self.note = ""
        self.live = Live(get_renderable=self._show, console=self.console, refresh_per_second=4, transient=True)

    def _show(self) -> RenderableType:
        return Group(self.table, self.bars, self.note)

    def __enter__(self) -> "Progress":
        if self.console.is_terminal:
            self.live.start()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.live.stop()

    def start(self, layer: str, seed: int, epochs: int) -> None:
        self.epochs, self.note = epochs, ""
        self.bars.reset(self.one, total=epochs, description=f"{layer}, seed {seed}", visible=True)

    def epoch(self, record: dict[str, float]) -> None:
        shown = next((f", {key} {record[key]:.1f} %" for key in ("validation", "test") if key in record), "")
        self.note = f"loss {record['loss']:.3f}{shown}"
        self.bars.update(self.one, completed=record["epoch"])
        self.bars.update(self.all, completed=self.done + record["epoch"] / self.epochs)  # so that time left is known

    def finish(self, line: str, table: Table) -> None:
        self.done += 1
        self.bars.update(self.all, completed=self.done)
        self.table = table
        if not self.console.is_terminal:
            self.console.print(line)

    def summary(self, tables: Sequence[Table | None], line: str) -> None:
        self.console.print(*(table for table in tables if table is not None))
        self.console.print(line, soft_wrap=True, highlight=False)
