"""Fashion-MNIST: three images that the test writes itself, and the published files where Debian's package is."""

import hashlib
import importlib

import numpy as np
import pytest

from gnnlib.datasets import FASHION, DownloadError, FormatError, fashion

module = importlib.import_module("gnnlib.datasets._fashion")  # `gnnlib.datasets.fashion` itself is the function
INSTALLED = module.INSTALLED


@pytest.fixture(autouse=True)
def _nothing_elsewhere(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "URL", (tmp_path / "public").as_uri() + "/")
    monkeypatch.setattr(module, "INSTALLED", tmp_path / "installed")


@pytest.fixture
def three():
    return np.random.default_rng(0).integers(0, 256, (3, 28, 28)), np.array([9, 0, 4])


@pytest.mark.parametrize("named", ["data", "GNNLIB_DATA", "installed"])
@pytest.mark.parametrize(("train", "part"), [(True, "train"), (False, "t10k")])
def test_locations(tmp_path, write_mnist, three, monkeypatch, named, train, part):
    write_mnist(tmp_path / ("installed" if named == "installed" else "data/fashion-mnist"), *three, part)
    if named == "GNNLIB_DATA":
        monkeypatch.setenv("GNNLIB_DATA", str(tmp_path / "data"))
    images, labels = fashion(tmp_path / "data" if named == "data" else None, train)
    assert np.array_equal(images.numpy(), three[0])
    assert labels.tolist() == [9, 0, 4]


def test_data_folder_before_system_folder(tmp_path, write_mnist, three):
    images, labels = three
    write_mnist(tmp_path / "installed", images, labels)
    write_mnist(tmp_path / "data" / "fashion-mnist", images, labels[::-1])
    assert fashion(tmp_path / "data")[1].tolist() == [4, 0, 9]
    assert fashion()[1].tolist() == [9, 0, 4]


@pytest.mark.parametrize("folder", [".", "mnist"])
def test_mnist_is_no_fashion_mnist(tmp_path, write_mnist, three, folder):
    write_mnist(tmp_path / "data" / folder, *three)
    with pytest.raises(DownloadError, match=r"no \S*/data/fashion-mnist/train-images-idx3-ubyte.gz in the data dir"):
        fashion(tmp_path / "data")


def test_a_download_is_checked(tmp_path, write_mnist, three, monkeypatch):
    write_mnist(tmp_path / "public", *three)
    with pytest.raises(DownloadError, match="expected md5 8d4fb7e6c68d591d4c3dfef9ec88bf0d, got"):
        fashion()
    for name in ("train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"):
        monkeypatch.setitem(module.MD5, name, hashlib.md5((tmp_path / "public" / name).read_bytes()).hexdigest())
    assert fashion()[1].tolist() == [9, 0, 4]


def test_damaged_file(tmp_path, write_mnist, three):
    write_mnist(tmp_path / "installed", three[0][:, :27], three[1])
    with pytest.raises(FormatError, match=r"installed/train-images.*expected images of 28x28, got 27x28"):
        fashion()


@pytest.mark.skipif(not INSTALLED.is_dir(), reason=f"no real data: {INSTALLED} is absent (dataset-fashion-mnist)")
@pytest.mark.parametrize("train", [True, False])
def test_published_counts(monkeypatch, train):
    monkeypatch.setattr(module, "INSTALLED", INSTALLED)
    images, labels = fashion(train=train)
    assert labels.bincount().tolist() == [6000 if train else 1000] * len(FASHION)
    assert images.float().mean() / 255 == pytest.approx(0.286, abs=2e-3)
    if train:
        assert FASHION[labels[0]] == "ankle boot"
