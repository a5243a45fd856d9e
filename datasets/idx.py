"""Reader of the idx format (MNIST): a magic number, the size of each dimension, then the values, all big-endian."""

import os
import sys
import zlib
from pathlib import Path

import numpy as np

from gnnlib.datasets.files import FormatError

__all__ = ["read_idx"]

# third byte of the magic number -> type of the values
DTYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
MAX_DIMS = 32
MAX_HEADER = 4 + 4 * 255  # bytes


def read_idx(path: str | os.PathLike[str], magic: int | None = None) -> np.ndarray:
    """The array in an idx file, plain or gzipped (LeCun et al., "The MNIST database of handwritten digits").

    The magic number is two zero bytes, the code of the type and the number of dimensions D; then come D sizes of
    four bytes each, and the values with the last dimension fastest.

    Args:
        path: the file, gzipped or not, whatever its name.
        magic: the expected magic number, such as 0x803 for bytes in three dimensions; None: any.

    Returns:
        an array in the machine's byte order.

    Raises:
        FormatError: if the magic number differs, there are more than 32 dimensions, the number of bytes does not match
            the sizes, or the gzip stream is damaged. No more is inflated than the sizes say.

    Example:
        >>> import tempfile
        >>> from gnnlib.datasets.idx import read_idx
        >>> from pathlib import Path
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     file = Path(folder) / "three"
        ...     _ = file.write_bytes(bytes([0, 0, 8, 1, 0, 0, 0, 3, 7, 8, 9]))
        ...     read_idx(file)
        array([7, 8, 9], dtype=uint8)
    """
    path = Path(path)
    raw = path.read_bytes()
    content, note = _content(raw, path, MAX_HEADER)
    number = int.from_bytes(content[:4], "big")
    if len(content) < 4:
        raise FormatError(f"{path}: expected a magic number of 4 bytes, got {len(content)} bytes{note}")
    if magic is not None and number != magic:
        raise FormatError(f"{path}: expected the magic number 0x{magic:08x}, got 0x{number:08x}")
    dtype, ndim = DTYPES.get(number >> 8), number & 0xFF
    if dtype is None:
        codes = ", ".join(f"0x{code:06x}DD" for code in DTYPES)
        raise FormatError(f"{path}: expected a magic number of idx ({codes}), got 0x{number:08x}")
    if ndim > MAX_DIMS:
        raise FormatError(f"{path}: expected at most {MAX_DIMS} dimensions, got {ndim}")
    start = 4 + 4 * ndim
    if len(content) < start:
        raise FormatError(f"{path}: expected a header of {start} bytes, got {len(content)} bytes{note}")
    shape = [int.from_bytes(content[i : i + 4], "big") for i in range(4, start, 4)]
    count = int(np.prod(shape, dtype=object))
    expected = start + count * np.dtype(dtype).itemsize
    content, note = _content(raw, path, expected)
    if len(content) != expected or note:
        fault = "truncated" if len(content) < expected else "too long" if len(content) > expected else "damaged"
        raise FormatError(
            f"{path} is {fault}: expected {expected} bytes for shape {tuple(shape)}, got {len(content)}{note}"
        )
    values = np.frombuffer(content, dtype, count, start).reshape(shape)
    return values.astype(values.dtype.newbyteorder("="))


def _content(raw: bytes, path: Path, limit: int) -> tuple[bytes, str]:
    """The content of a plain or gzipped file, and a note about its end ('' if it is intact).

    A gzip stream is inflated to ``limit`` bytes and one more, or as far as it is readable.
    """
    if raw[:2] != b"\x1f\x8b":
        return raw, ""
    stream = zlib.decompressobj(wbits=31)  # 31: gzip, with its checksum
    try:
        content = stream.decompress(raw, min(limit + 1, sys.maxsize))
    except zlib.error as error:
        raise FormatError(f"{path}: damaged gzip stream of {len(raw)} bytes ({error})") from error
    if len(content) > limit:
        return content, " or more"
    if not stream.eof:
        return content, " (the gzip stream ends early)"
    if stream.unused_data:
        return content, f" (and {len(stream.unused_data)} bytes after the gzip stream)"
    return content, ""
