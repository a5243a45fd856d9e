"""The records of a training: a list with a table and a CSV file; TensorBoard; a progress bar."""

import csv
import math
import os
import sys
from pathlib import Path
from typing import Any

from gnnlib._utils.files import atomic_write

__all__ = ["History", "ProgressBar", "TensorBoard"]

Record = dict[str, float]


class History(list[Record]):
    """The records of a training, one for each epoch: ``{"epoch": 1, "loss": ..., "val_loss": ..., ...}``.

    Args:
        records: in order
        best_epoch: the epoch whose weights the model has; None: the last one

    Example:
        >>> from gnnlib.train import History
        >>> history = History([{"epoch": 1, "loss": 0.5}, {"epoch": 2, "loss": 0.25}])
        >>> history.best, history["loss"]
        ({'epoch': 2, 'loss': 0.25}, [0.5, 0.25])
    """

    def __init__(self, records: Any = (), best_epoch: int | None = None):
        super().__init__(records)
        self.best_epoch = best_epoch

    def __getitem__(self, key: Any) -> Any:
        return [record.get(key, math.nan) for record in self] if isinstance(key, str) else super().__getitem__(key)

    @property
    def best(self) -> Record:
        """The record of the epoch whose weights the model has."""
        return self[-1 if self.best_epoch is None else self.best_epoch - 1]

    @property
    def table(self) -> Any:
        """A ``pandas.DataFrame`` with a row for each epoch."""
        import pandas

        return pandas.DataFrame(list(self))

    def to_csv(self, path: str | os.PathLike[str]) -> None:
        """Writes the records to a file, one line for each epoch. The file appears complete or not at all.

        Args:
            path: of the file
        """
        names = list(dict.fromkeys(name for record in self for name in record))
        with atomic_write(Path(path)) as part, part.open("w", newline="") as file:
            writer = csv.DictWriter(file, names)
            writer.writeheader()
            writer.writerows(self)


class TensorBoard:
    """Writes the numbers of each record for TensorBoard: ``fit(..., on_epoch=TensorBoard("runs/gcn"))``.

    It needs the package tensorboard (the extra ``bench``). ``tensorboard --logdir runs`` shows the curves. A resumed
    training writes its earlier epochs again, at the same steps.

    Args:
        folder: of the run

    Raises:
        ImportError: if the package tensorboard is missing
    """

    def __init__(self, folder: str | os.PathLike[str]):
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise ImportError("TensorBoard: expected the package tensorboard, pip install tensorboard") from error
        self._writer = SummaryWriter(str(folder))

    def __call__(self, record: Record) -> None:
        for name, value in record.items():
            if name != "epoch" and isinstance(value, (int, float)):
                self._writer.add_scalar(name, value, int(record["epoch"]))
        self._writer.flush()


class ProgressBar:
    """A bar with the epoch, the last record, and the time left, on the standard error stream.

    Args:
        epochs: number of epochs
    """

    def __init__(self, epochs: int):
        from tqdm.auto import tqdm  # type: ignore[import-untyped]

        self._bar = tqdm(total=epochs, unit="epoch", file=sys.stderr)

    def __call__(self, record: Record) -> None:
        self._bar.set_postfix({name: value for name, value in record.items() if name != "epoch"}, refresh=False)
        self._bar.update()

    def close(self) -> None:
        """Leaves the last state of the bar."""
        self._bar.close()
