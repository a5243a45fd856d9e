"""MNIST as superpixel graphs: the same graphs as one by one, from workers, and from the cache."""

import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import gnnlib.images
from datasets import mnist_superpixels

pytest.importorskip("skimage", reason="scikit-image is not installed")
module = sys.modules["datasets.superpixels"]


@pytest.fixture
def data(tmp_path, write_mnist):
    """A directory with six images: noise in a disc, and one blank."""
    rng = np.random.default_rng(0)
    rows, columns = np.indices((28, 28)) - 13.5
    images = rng.integers(0, 256, (6, 28, 28)) * (rows**2 + columns**2 < 100)
    images[3] = 0
    for part in ("train", "t10k"):
        write_mnist(tmp_path / "data", images, np.arange(6), part)
        images = images[::-1]
    return tmp_path / "data"


@pytest.fixture
def conversions(monkeypatch):
    """How many images each conversion had."""
    calls = []
    convert = module._convert_all
    monkeypatch.setattr(
        module, "_convert_all", lambda pixels, *args: calls.append(len(pixels)) or convert(pixels, *args)
    )
    return calls


def assert_same(graphs, others):
    assert len(graphs) == len(others)
    for graph, other in zip(graphs, others):
        for mine, its in zip(graph.edges(), other.edges()):
            assert torch.equal(mine, its)
            assert mine.dtype == its.dtype
        for mine, its in ((graph.ndata, other.ndata), (graph.edata, other.edata)):
            assert mine.keys() == its.keys()
            for name in mine:
                assert torch.equal(mine[name], its[name])
                assert mine[name].dtype == its[name].dtype


def test_equal_to_one_by_one(data, conversions):
    images = module.mnist(data)[0]
    expected = [gnnlib.images.superpixel_graph(image, num_segments=20, k=3) for image in images]
    for _ in range(2):  # converted, then from the cache
        graphs, labels = mnist_superpixels(data, num_segments=20, k=3)
        assert_same(graphs, expected)
        assert labels.tolist() == list(range(6))
    assert conversions == [6]
    assert len(pickle.dumps(graphs[0].ndata["feat"])) < 1000, "a graph has its own memory"


def test_another_recipe_is_another_cache_entry(data, conversions, write_mnist, monkeypatch):
    arguments = [
        {"limit": 4},
        {"limit": 3},
        {"limit": 3, "train": False},
        {"limit": 3, "num_segments": 20},
        {"limit": 3, "k": 2},
    ]
    results = [mnist_superpixels(data, **each) for each in arguments]
    assert conversions == [4, 3, 3, 3, 3]
    for each, (graphs, labels) in zip(arguments, results):
        again = mnist_superpixels(data, **each)
        assert_same(again[0], graphs)
        assert torch.equal(again[1], labels)
    assert len(conversions) == 5
    monkeypatch.setattr(module.importlib.metadata, "version", lambda name: "0.0")  # another scikit-image
    mnist_superpixels(data, limit=3)
    images, labels = (tensor.numpy().copy() for tensor in module.mnist(data))
    images[0, 14, 14] ^= 1
    write_mnist(data, images, labels)
    mnist_superpixels(data, limit=3)
    assert conversions[5:] == [3, 3]


@pytest.mark.parametrize("harm", ["truncated", "changed", "empty"])
def test_a_damaged_cache_is_named_and_made_again(data, cache, conversions, harm):
    graphs, _ = mnist_superpixels(data, limit=2)
    (path,) = cache.rglob("*.npz")
    content = path.read_bytes()
    path.write_bytes(
        {"truncated": content[:-1], "changed": content[:200] + b"\xff" + content[201:], "empty": b""}[harm]
    )
    with pytest.warns(RuntimeWarning, match=f"damaged cache entry {path}: expected sha256"):
        again, _ = mnist_superpixels(data, limit=2)
    assert_same(again, graphs)
    assert conversions == [2, 2]


@pytest.mark.parametrize("limit", [0, -1, 7])
def test_bad_limits(data, limit):
    with pytest.raises(ValueError, match=f"expected limit from 1 to 6, the number of images, received {limit}"):
        mnist_superpixels(data, limit=limit)


def test_workers_and_an_unguarded_script(data, tmp_path, cache):
    """Workers give the same graphs, also to a script without `if __name__ == "__main__"`."""
    script = tmp_path / "script.py"
    script.write_text(
        "import sys\n"
        "print('running')\n"
        "from datasets import mnist_superpixels\n"
        "graphs, labels = mnist_superpixels(sys.argv[1], workers=2)\n"
        "print(len(graphs))\n"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-W", "error", str(script), str(data)],
        env={**os.environ, "PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["running", "6"]
    (path,) = cache.rglob("*.npz")
    before = path.stat().st_mtime_ns
    graphs, _ = mnist_superpixels(data)
    assert path.stat().st_mtime_ns == before
    assert_same(graphs, [gnnlib.images.superpixel_graph(image) for image in module.mnist(data)[0]])


def test_real_images(data_dir):
    if not (data_dir / "mnist").is_dir():
        pytest.skip(f"no real data: {data_dir} has no mnist")
    graphs, labels = mnist_superpixels(data_dir, train=False, limit=100)
    assert labels[:5].tolist() == [7, 2, 1, 0, 4]
    sizes = torch.tensor([graph.num_nodes() for graph in graphs])
    assert sizes.min() >= 50
    assert sizes.max() <= 100
    for graph in graphs:
        assert torch.equal(graph.in_degrees(), torch.full((graph.num_nodes(),), 8))
        assert graph.ndata["feat"].min() >= 0
        assert graph.ndata["feat"].max() <= 1
        assert graph.ndata["pos"].min() >= 0
        assert graph.ndata["pos"].max() <= 27
