"""The header of .npy files."""

from typing import IO

import numpy as np

__all__ = ["read_npy_header"]


def read_npy_header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Shape, Fortran order and type of an .npy file, which is then at its first value.

    Raises:
        ValueError: if the file has no such header

    Example:
        >>> import io
        >>> import numpy as np
        >>> from gnnlib._utils.npy import read_npy_header
        >>> file = io.BytesIO()
        >>> np.save(file, np.zeros((2, 3), np.float32))
        >>> _ = file.seek(0)
        >>> read_npy_header(file)
        ((2, 3), False, dtype('float32'))
    """
    try:
        version = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = read(file)
    except OSError:
        raise
    except Exception as error:  # numpy evaluates the header as a literal, which may fail in many ways
        raise ValueError(f"expected the header of an .npy file, got another ({error})") from error
    if any(size < 0 for size in shape):
        raise ValueError(f"expected sizes of 0 or more, got shape {shape}")
    return shape, fortran, dtype
