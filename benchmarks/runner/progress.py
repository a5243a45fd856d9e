"""The display of a run: progress bars and a live leaderboard in a terminal, else plain lines."""

from collections.abc import Sequence
from types import TracebackType

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress import Progress as Bars
from rich.table import Table

from gnnlib._utils.progress import EVERY, clock, columns
from gnnlib.train.checkpoints import Checkpoint


class Progress:
    """A bar over all trainings of a run, one over the epochs of the present one, and the leaderboard so far; where
    there is no terminal, a line for each training, and one each minute.

    The time left follows from what the training has taken so far, before its breaks too (`Checkpoint.seconds`), for
    each epoch that it has done; the trainings to come are taken to be like those so far.
    """

    def __init__(self, title: str, total: int, done: int, quiet: bool = False):
        self.console = Console(quiet=quiet)
        self.bars = Bars(*columns(seconds_left=lambda task: task.fields["remaining"]()), console=self.console)
        self.done, self.total = done, total
        self.took: list[float] = []  # seconds of each training that is finished
        self.at_epoch = 0, 0.0  # the last one, and the seconds it came at
        self.checkpoint: Checkpoint | None = None
        self.all = self.bars.add_task(title, total=total, completed=done, remaining=self.remaining)
        self.one = self.bars.add_task("", total=None, visible=False, remaining=self.remaining_of_training)
        self.table: RenderableType = ""
        self.note = ""
        self.live = Live(get_renderable=self._show, console=self.console, refresh_per_second=4, transient=True)

    def _show(self) -> RenderableType:
        return Group(self.table, self.bars, self.note)

    def __enter__(self) -> "Progress":
        if self.console.is_terminal and not self.console.quiet:
            self.live.start()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.live.stop()

    def start(self, layer: str, seed: int, epochs: int, checkpoint: Checkpoint) -> None:
        self.title, self.epochs, self.note = f"{layer}, seed {seed}", epochs, ""
        self.checkpoint, self.at_epoch, self.printed = checkpoint, (0, 0.0), checkpoint.seconds
        self.bars.reset(self.one, total=epochs, description=self.title, visible=True)

    def remaining_of_training(self) -> float | None:
        """Seconds to the end of the present training; None before the end of its first epoch."""
        epoch, at = self.at_epoch
        if epoch == 0 or self.checkpoint is None:
            return None
        return max(0.0, at / epoch * self.epochs - self.checkpoint.seconds)

    def remaining(self) -> float | None:
        """Seconds to the end of the run."""
        present, trainings = self.remaining_of_training(), self.total - self.done
        if trainings == 0:
            return 0.0
        if present is None or self.checkpoint is None:
            return sum(self.took) / len(self.took) * trainings if self.took else None
        expected = [*self.took, present + self.checkpoint.seconds]
        return present + sum(expected) / len(expected) * (trainings - 1)

    def epoch(self, record: dict[str, float]) -> None:
        metric = next((f", {key} {record[key]:.1f} %" for key in ("validation", "test") if key in record), "")
        self.note = f"loss {record['loss']:.3f}{metric}"
        assert self.checkpoint is not None
        seconds = self.checkpoint.seconds
        self.at_epoch = int(record["epoch"]), seconds
        self.bars.update(self.one, completed=record["epoch"])
        self.bars.update(self.all, completed=self.done + record["epoch"] / self.epochs)
        if not self.console.is_terminal and seconds - self.printed >= EVERY:
            self.printed = seconds
            remaining = clock(self.remaining_of_training())
            line = f"{self.title}: epoch {record['epoch']} of {self.epochs}, {self.note}, {remaining} left"
            self.console.print(line, soft_wrap=True)

    def finish(self, line: str, table: Table) -> None:
        assert self.checkpoint is not None
        self.took.append(self.checkpoint.seconds)
        self.done += 1
        self.bars.update(self.all, completed=self.done)
        self.table = table
        if not self.console.is_terminal:
            self.console.print(line)

    def summary(self, tables: Sequence[Table | None], line: str) -> None:
        self.console.print(*(table for table in tables if table is not None))
        self.console.print(line, soft_wrap=True, highlight=False)
