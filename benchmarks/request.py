"""A command of the command line with its options: the base of every command's request."""

import os
import shlex
from argparse import Namespace
from dataclasses import fields
from typing import Any, ClassVar, TypeVar

from gnnlib.benchmarks.errors import UsageError
from gnnlib.benchmarks.options import options_of, program

R = TypeVar("R", bound="Request")


class Request:
    """Base of the dataclasses whose fields are a command's options; None takes the default of the task or data set."""

    COMMAND: ClassVar[str]

    @classmethod
    def of(cls: type[R], namespace: Namespace) -> R:
        """The request of a parsed command line."""
        names = [field.name for field in fields(cls)]  # type: ignore[arg-type]
        return cls(**{name: value for name, value in vars(namespace).items() if name in names})

    def words(self, **replaced: Any) -> list[str]:
        """The options on the command line, without defaults and the folders of this machine.

        Args:
            replaced: other values, by field
        """
        values = {"data": os.environ.get("GNNLIB_DATA"), **{k: v for k, v in vars(self).items() if v is not None}}
        values |= replaced
        return [w for option in options_of(self.COMMAND) for w in option.words(values.get(option.field))]

    def command(self) -> str:
        """The command line that repeats this request; folders of this machine are left out."""
        return shlex.join([*program().split(), self.COMMAND, *self.words()])


def check_device(device: str) -> None:
    """Whether PyTorch has a device.

    Raises:
        UsageError: if it does not, with those that it has
    """
    import torch  # --help does not wait for it

    try:
        torch.zeros(1, device=device).item()
    except (RuntimeError, AssertionError, ImportError) as error:
        devices = ["cpu", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))]
        reason = str(error).splitlines()[0].split(". ")[0][:80]
        raise UsageError(f"--device: expected one of {', '.join(devices)}, got {device!r} ({reason})") from error
