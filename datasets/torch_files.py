"""Files of ``torch.save`` with tensors, NumPy arrays, dictionaries and lists: read without running what they name.

The splits of the Open Graph Benchmark are such files, of both formats of PyTorch. ``torch.load(weights_only=True)``
refuses NumPy arrays and some protocols of pickle.
"""

import io
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from torch import Tensor

from gnnlib.datasets.archives import open_zip
from gnnlib.datasets.files import FormatError

__all__ = ["read_torch_file"]

MAGIC = 0x1950A86A20F9469CFC6C  # of PyTorch's first format: four pickles, then the numbers of each storage
STORAGES = {
    **{f"{name}Storage": getattr(torch, name.lower()) for name in ("Double", "Float", "Half", "Long", "Int", "Short")},
    **{"CharStorage": torch.int8, "ByteStorage": torch.uint8, "BoolStorage": torch.bool},
}
_reconstruct: Any = np.empty(0).__reduce__()[0]


def _encode(text: str, encoding: str = "latin1") -> bytes:
    return text.encode(encoding)


def _tensor(storage: Tensor, offset: int, size: Sequence[int], stride: Sequence[int], *_: Any) -> Tensor:
    return torch.as_strided(storage, tuple(size), tuple(stride), offset)


ALLOWED: dict[tuple[str, str], Any] = {
    ("_codecs", "encode"): _encode,
    ("collections", "OrderedDict"): OrderedDict,
    ("numpy", "dtype"): np.dtype,
    ("numpy", "ndarray"): np.ndarray,
    ("torch._utils", "_rebuild_tensor"): _tensor,
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    **{(f"numpy.{core}.multiarray", "_reconstruct"): _reconstruct for core in ("core", "_core")},
    **{("torch", name): dtype for name, dtype in STORAGES.items()},
}


class _Unpickler(pickle.Unpickler):
    """An unpickler of these classes and no others. It imports no module that a file names."""

    def __init__(self, file: IO[bytes], storage: Callable[..., Tensor]):
        super().__init__(file, encoding="latin1")
        self.storage = storage

    def find_class(self, module: str, name: str) -> Any:
        try:
            return ALLOWED[module, name]
        except KeyError:
            raise FormatError(f"expected tensors, arrays, dictionaries and lists, got {module}.{name}") from None

    def persistent_load(self, pid: Any) -> Tensor:
        kind, dtype, key, _, number = pid[:5]
        if kind != "storage" or not isinstance(dtype, torch.dtype) or any(pid[5:]):
            raise FormatError(f"expected a storage of numbers, got {kind!r}")
        return self.storage(dtype, str(key), int(number))


def read_torch_file(path: Path) -> Any:
    """The object in a file of ``torch.save``.

    Raises:
        FormatError: if it is damaged, or has anything but tensors, arrays, numbers, strings, dictionaries and lists

    Example:
        >>> import tempfile
        >>> import torch
        >>> from pathlib import Path
        >>> from gnnlib.datasets.torch_files import read_torch_file
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     torch.save({"edge": torch.tensor([[0, 1]])}, Path(folder) / "train.pt")
        ...     read_torch_file(Path(folder) / "train.pt")
        {'edge': tensor([[0, 1]])}
    """
    try:
        return _from_zip(path) if zipfile.is_zipfile(path) else _from_pickles(path)
    except FormatError as error:
        raise error if str(path) in str(error) else FormatError(f"{path}: {error}") from None
    except Exception as error:  # a damaged pickle can raise nearly any error
        raise FormatError(
            f"{path}: truncated or damaged file of torch.save ({type(error).__name__}: {error})"
        ) from error


def _from_zip(path: Path) -> Any:
    with open_zip(path, "a file of torch.save") as members:
        (pickled,) = (name for name in members.infos if name.endswith("/data.pkl") and name.count("/") == 1)
        top = pickled.removesuffix("data.pkl")

        def storage(dtype: torch.dtype, key: str, number: int) -> Tensor:
            return _numbers(members.read(f"{top}data/{key}"), dtype, number)

        return _Unpickler(io.BytesIO(members.read(pickled)), storage).load()


def _from_pickles(path: Path) -> Any:
    storages: dict[str, Tensor] = {}
    room = path.stat().st_size

    def storage(dtype: torch.dtype, key: str, number: int) -> Tensor:
        if key not in storages:
            if not 0 <= number * dtype.itemsize <= room:
                raise FormatError(f"expected storages within the {room} bytes of the file, got {number} numbers")
            storages[key] = torch.empty(number, dtype=dtype)
        return storages[key]

    with open(path, "rb") as file:
        load = partial(_Unpickler, file, storage)
        magic, protocol, _, content, keys = (load().load() for _ in range(5))
        if (magic, protocol) != (MAGIC, 1001):
            raise FormatError(f"expected a file of torch.save, got one of another kind ({magic!r:.40})")
        for key in keys:
            numbers = storages[str(key)]
            size = int.from_bytes(file.read(8), "little")
            numbers.copy_(_numbers(file.read(len(numbers) * numbers.itemsize), numbers.dtype, size))
    return content


def _numbers(content: bytes, dtype: torch.dtype, number: int) -> Tensor:
    if len(content) != number * dtype.itemsize:
        raise FormatError(f"expected {number} numbers of {dtype}, got {len(content)} bytes")
    return torch.frombuffer(bytearray(content), dtype=dtype) if content else torch.empty(0, dtype=dtype)
