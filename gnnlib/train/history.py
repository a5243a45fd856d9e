"""The records of a training: a list with a table and a CSV file; TensorBoard."""

import csv
import math
import os
from pathlib import Path
from typing import Any

from gnnlib._utils.calls import names_checked
from gnnlib._utils.files import atomic_write

__all__ = ["History", "TensorBoard"]

Record = dict[str, float]


@names_checked()
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
        """A record by its number, or the values of all epochs by their name, NaN where an epoch has none.

        Raises:
            KeyError: if no epoch has this name
        """
        if not isinstance(key, str):
            return super().__getitem__(key)
        names = dict.fromkeys(name for record in self for name in record)
        if names and key not in names:
            raise KeyError(f"History: expected one of {', '.join(names)}, got {key!r}")
        return [record.get(key, math.nan) for record in self]

    @property
    def best(self) -> Record:
        """The record of the epoch whose weights the model has.

        Raises:
            ValueError: if there is no epoch
        """
        if not self:
            raise ValueError("History: expected one epoch or more, got none")
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


@names_checked()
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
