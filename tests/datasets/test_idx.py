"""The idx format, byte by byte."""

import gzip
import struct
import zlib

import numpy as np
import pytest

from gnnlib.datasets import idx
from gnnlib.datasets.files import FormatError
from gnnlib.datasets.idx import read_idx

# two images of 2 rows and 3 columns: magic number, sizes, values
IMAGES = bytes.fromhex("00000803 00000002 00000002 00000003  010203 040506  0708ff 0a0b00")
VALUES = [[[1, 2, 3], [4, 5, 6]], [[7, 8, 255], [10, 11, 0]]]


@pytest.fixture
def write(tmp_path):
    def write(content):
        path = tmp_path / "images"
        path.write_bytes(content)
        return path

    return write


def packed(content):
    """Without the time: tests are named by their content, and every process must find the same names."""
    return gzip.compress(content, mtime=0)


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_literal_bytes(write, pack):
    array = read_idx(write(pack(IMAGES)), magic=0x803)
    assert array.tolist() == VALUES
    assert array.dtype == np.uint8
    assert array.flags.writeable


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("00000901 00000002 ff 80", [-1, -128]),
        ("00000b01 00000002 0102 fffe", [258, -2]),
        ("00000c01 00000001 01020304", [16909060]),
        ("00000d01 00000001 3fc00000", [1.5]),
        ("00000e01 00000001 c004000000000000", [-2.5]),
        ("00000802 00000000 00000005", []),
    ],
)
def test_the_other_types(write, content, expected):
    array = read_idx(write(bytes.fromhex(content)))
    assert array.tolist() == expected
    assert array.dtype.isnative


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"expected a magic number of 4 bytes, got 0 bytes"),
        (b"\0\0\x08", r"expected a magic number of 4 bytes, got 3 bytes"),
        (b"\0\0\x08\x01\0\0\0\0", r"expected the magic number 0x00000803, got 0x00000801"),
        (IMAGES[:10], r"expected a header of 16 bytes, got 10 bytes"),
        (IMAGES[:-1], r"is truncated: expected 28 bytes for shape \(2, 2, 3\), got 27"),
        (IMAGES + b"\0", r"is too long: expected 28 bytes for shape \(2, 2, 3\), got 29"),
        (IMAGES[:4] + b"\xff" * 12, r"is truncated: expected 79228162458924105385300197391 bytes"),
        (packed(IMAGES[:-1]), r"is truncated: expected 28 bytes for shape \(2, 2, 3\), got 27"),
        (packed(IMAGES)[:-1], r"is damaged: expected 28 .* got 28 \(the gzip stream ends early\)"),
        (packed(IMAGES) + b"more", r"is damaged: .* got 28 \(and 4 bytes after the gzip stream\)"),
        (packed(IMAGES)[:-8] + bytes(8), r"damaged gzip stream of \d+ bytes \(.*incorrect data check"),
        (packed(b""), r"expected a magic number of 4 bytes, got 0 bytes"),
    ],
)
def test_damaged_files(write, content, message):
    path = write(content)
    with pytest.raises(FormatError, match=message) as error:
        read_idx(path, magic=0x803)
    assert str(path) in str(error.value)


def test_no_more_is_inflated_than_the_header_says(write, monkeypatch):
    bomb = packed(IMAGES + bytes(2**25))
    path, sizes = write(bomb), []
    original = zlib.decompressobj

    class Stream:
        def __init__(self, **options):
            self.stream = original(**options)

        def decompress(self, data, limit=0):
            sizes.append(limit)
            return self.stream.decompress(data, limit)

    monkeypatch.setattr(idx.zlib, "decompressobj", Stream)
    with pytest.raises(FormatError, match=r"is too long: expected 28 bytes for shape \(2, 2, 3\), got 29 or more"):
        read_idx(path)
    assert sizes
    assert 0 < min(sizes) <= max(sizes) <= 1100


def test_too_many_dimensions(write):
    for ndim in (33, 65, 255):
        content = bytes([0, 0, 8, ndim]) + struct.pack(">I", 1) * ndim + b"\x07"
        with pytest.raises(FormatError, match=rf"images: expected at most 32 dimensions, got {ndim}"):
            read_idx(write(content))
    assert read_idx(write(bytes([0, 0, 8, 32]) + struct.pack(">I", 1) * 32 + b"\x07")).shape == (1,) * 32


@pytest.mark.parametrize("magic", ["00010803", "00000a03", "01000803"])
def test_not_idx_at_all(write, magic):
    with pytest.raises(FormatError, match=rf"expected a magic number of idx \(0x000008DD.*\), got 0x{magic}"):
        read_idx(write(bytes.fromhex(magic)))


def test_a_gzip_cut_anywhere_is_an_error(write):
    content = gzip.compress(
        np.random.default_rng(0).bytes(2000).join([IMAGES[:4] + b"\0\0\0\x02\0\0\0\x0a\0\0\0\x64", b""])
    )
    assert read_idx(write(content)).shape == (2, 10, 100)
    for cut in range(0, len(content), 97):
        with pytest.raises(FormatError):
            read_idx(write(content[:cut]))
