"""CIFAR-10: files that the test writes in the published layout."""

import hashlib
import importlib
import io
import tarfile
from functools import partial

import numpy as np
import pytest

from gnnlib.datasets import CIFAR10, DownloadError, FormatError, cifar10
from tests.attack.kinds import zips

module = importlib.import_module("gnnlib.datasets.cifar")  # not to be confused with the function
RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (12, 3, 32, 32)).astype(np.uint8)
LABELS = RNG.permutation(12) % 10


def content(images, labels):
    """A label, then 1024 bytes of red, of green and of blue for each image."""
    return b"".join(bytes([label]) + image.tobytes() for image, label in zip(images, labels, strict=True))


PARTS = {f"data_batch_{i + 1}.bin": content(IMAGES[2 * i : 2 * i + 2], LABELS[2 * i : 2 * i + 2]) for i in range(5)}
PARTS["test_batch.bin"] = content(IMAGES[10:], LABELS[10:])


def write_folder(folder, parts=PARTS):
    folder.mkdir(parents=True)
    for name, what in parts.items():
        (folder / name).write_bytes(what)


def write_archive(path, parts=PARTS):
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w:gz") as tar:
        for name, what in {"batches.meta.txt": b"airplane\n", **parts}.items():
            info = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
            info.size = len(what)
            tar.addfile(info, io.BytesIO(what))


@pytest.fixture(autouse=True)
def _nothing_elsewhere(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "URL", (tmp_path / "public" / module.ARCHIVE).as_uri())


@pytest.mark.parametrize("form", ["folder", "archive"])
def test_both_forms(tmp_path, form):
    if form == "folder":
        write_folder(tmp_path / module.FOLDER)
    else:
        write_archive(tmp_path / module.ARCHIVE)
    for train, rows in ((True, slice(10)), (False, slice(10, 12))):
        images, labels = cifar10(tmp_path, train)
        assert np.array_equal(images.numpy(), IMAGES[rows])
        assert np.array_equal(labels.numpy(), LABELS[rows])
    assert len(CIFAR10) == 10


def test_download_checksum(tmp_path, monkeypatch):
    with pytest.raises(DownloadError, match=r"cifar-10-binary.tar.gz not found"):
        cifar10()
    write_archive(tmp_path / "public" / module.ARCHIVE)
    with pytest.raises(DownloadError, match="expected md5 c32a1d4ab5d03f1284b67883e8d87530, got"):
        cifar10()
    right = hashlib.md5((tmp_path / "public" / module.ARCHIVE).read_bytes()).hexdigest()
    monkeypatch.setattr(module, "MD5", right)
    assert len(cifar10()[1]) == 10


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"data_batch_3.bin": PARTS["data_batch_3.bin"][:-1]},
            r"data_batch_3.bin: expected rows of 3073 bytes, got 6145",
        ),
        ({"data_batch_3.bin": b""}, "got 0 bytes"),
        ({"data_batch_3.bin": b"\x0a" + PARTS["data_batch_3.bin"][1:]}, "expected labels 0 to 9, got 10"),
    ],
)
def test_damage_is_named(tmp_path, change, message):
    write_folder(tmp_path / "folder" / module.FOLDER, {**PARTS, **change})
    write_archive(tmp_path / "archive" / module.ARCHIVE, {**PARTS, **change})
    for form in ("folder", "archive"):
        with pytest.raises(FormatError, match=message):
            cifar10(tmp_path / form)


def test_missing_and_truncated(tmp_path):
    less = {name: what for name, what in PARTS.items() if name != "data_batch_4.bin"}
    write_folder(tmp_path / "folder" / module.FOLDER, less)
    write_archive(tmp_path / "archive" / module.ARCHIVE, less)
    for form in ("folder", "archive"):
        with pytest.raises(FormatError, match=r"got no data_batch_4\.bin"):
            cifar10(tmp_path / form)
    path = tmp_path / "cut" / module.ARCHIVE
    write_archive(path)
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(FormatError, match=r"expected an intact tar\.gz"):
        cifar10(path.parent)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("forge", "message"),
    [
        (partial(zips.tar_bomb, size=2**23), r"expected at most 4194304 bytes, got more"),
        (zips.tar_traversal, r"got no test_batch\.bin"),
        (zips.tar_links, r"got no test_batch\.bin"),
        (zips.tar_without_gzip, r"Not a gzipped file"),
    ],
)
def test_foreign_archives(tmp_path, forge, message, monkeypatch):
    monkeypatch.setattr(module, "MAX_BYTES", 2**22)
    path = tmp_path / module.ARCHIVE
    write_archive(path)
    forge(path)
    with pytest.raises(FormatError, match=rf"{path}: .*{message}"):
        cifar10(tmp_path, train=False)


def test_a_flipped_bit_is_noticed(tmp_path):
    """The checksum at the end of the gzip stream is compared, although the images come before it."""
    path = tmp_path / module.ARCHIVE
    write_archive(path)
    content = path.read_bytes()
    for place in range(60, len(content), len(content) // 40):  # after the header, which has a name
        path.write_bytes(content[:place] + bytes([content[place] ^ 8]) + content[place + 1 :])
        with pytest.raises(FormatError, match=r"expected an intact tar\.gz|got no test_batch"):
            cifar10(tmp_path, train=False)
