"""MNIST: the published files, and three images that the test writes itself."""

import hashlib
import importlib

import numpy as np
import pytest
import torch

from gnnlib.datasets import FormatError, mnist

module = importlib.import_module("gnnlib.datasets._mnist")  # `gnnlib.datasets.mnist` itself is the function
SHA256 = module.SHA256


@pytest.fixture
def three():
    return np.random.default_rng(0).integers(0, 256, (3, 28, 28)), np.array([9, 0, 4])


@pytest.mark.parametrize("folder", ["mnist", "."])
@pytest.mark.parametrize(("train", "part"), [(True, "train"), (False, "t10k")])
def test_round_trip(tmp_path, write_mnist, three, folder, train, part):
    write_mnist(tmp_path / folder, *three, part)
    images, labels = mnist(tmp_path, train)
    assert images.dtype == torch.uint8
    assert labels.dtype == torch.int64
    assert np.array_equal(images.numpy(), three[0])
    assert labels.tolist() == [9, 0, 4]


def test_inconsistent_files(tmp_path, write_mnist, three):
    images, labels = three
    write_mnist(tmp_path, images, labels[:2])
    with pytest.raises(FormatError, match=r"train-labels.*expected 3 labels, as many as images, got 2"):
        mnist(tmp_path)
    write_mnist(tmp_path, images, np.array([0, 1, 10]))
    with pytest.raises(FormatError, match=r"train-labels.*expected labels 0 to 9, got 10"):
        mnist(tmp_path)
    write_mnist(tmp_path, images[:, :27], labels)
    with pytest.raises(FormatError, match=r"train-images.*expected images of 28x28, got 27x28"):
        mnist(tmp_path)
    (tmp_path / "train-images-idx3-ubyte.gz").write_bytes((tmp_path / "train-labels-idx1-ubyte.gz").read_bytes())
    with pytest.raises(FormatError, match="expected the magic number 0x00000803, got 0x00000801"):
        mnist(tmp_path)


def test_a_directory_without_the_files(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "URL", (tmp_path / "nowhere").as_uri() + "/")
    with pytest.raises(FileNotFoundError, match=f"no {tmp_path}/mnist/t10k-images-idx3-ubyte.gz or .*--data DIR"):
        mnist(tmp_path, train=False)


def test_download_checksum(tmp_path, write_mnist, three, monkeypatch):
    write_mnist(tmp_path / "public", *three)
    monkeypatch.setattr(module, "URL", (tmp_path / "public").as_uri() + "/")
    with pytest.raises(FileNotFoundError, match=f"expected sha256 {SHA256['train-images-idx3-ubyte.gz']}, got"):
        mnist()
    for name in ("train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"):
        monkeypatch.setitem(SHA256, name, hashlib.sha256((tmp_path / "public" / name).read_bytes()).hexdigest())
    assert mnist()[1].tolist() == [9, 0, 4]


@pytest.mark.parametrize(
    ("train", "counts"),
    [
        (True, [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]),
        (False, [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]),
    ],
)
def test_published_counts(data_dir, train, counts):
    images, labels = mnist(data_dir, train)
    assert images.shape == (sum(counts), 28, 28)
    assert labels.bincount().tolist() == counts
    assert labels[:5].tolist() == ([5, 0, 4, 1, 9] if train else [7, 2, 1, 0, 4])
    mean = images.float().mean() / 255
    assert mean == pytest.approx(0.1307 if train else 0.1325, abs=1e-4)


def test_the_checksums_are_those_of_the_public_files(data_dir):
    rebuilt = "train-images-idx3-ubyte.gz"  # from a table that had lost the faintest pixels
    for name in SHA256.keys() - {rebuilt}:
        path = data_dir / "mnist" / name
        if not path.is_file():
            pytest.skip(f"no real data: {path} is absent")
        assert hashlib.sha256(path.read_bytes()).hexdigest() == SHA256[name]
