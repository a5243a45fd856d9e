"""Folders of results: one run at a time writes to each."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from gnnlib._utils.lock import InUseError, exclusive
from gnnlib.benchmarks.errors import UsageError
from gnnlib.train import distributed


@contextmanager
def exclusive_folder(folder: Path | None) -> Iterator[None]:
    """Context in which no other run can write to a folder; its file ``lock`` names the process and the host.

    With several processes the first one holds the lock for all. None is no folder.

    Raises:
        UsageError: if another run is writing to the folder
    """
    with ExitStack() as stack:
        error = None
        if distributed.rank() == 0 and folder is not None:
            try:
                stack.enter_context(exclusive(folder / "lock"))
            except InUseError as in_use:
                error = str(in_use)
        error = distributed.broadcast_object(error)
        if error is not None:
            raise UsageError(f"--out: {error}; wait for it, or name another folder")
        yield
