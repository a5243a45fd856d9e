"""Files of torch.save: what torch.load reads, and nothing that runs."""

import os
import pickle
from collections import OrderedDict

import numpy as np
import pytest
import torch

from gnnlib.datasets import FormatError
from gnnlib.datasets.torch_files import read_torch_file

X = torch.arange(12.0).view(3, 4)
CONTENT = {
    "edge": np.arange(6).reshape(3, 2),
    "year": np.array([1, 2, 3], dtype=np.int32),
    "tensor": X,
    "transposed": X.T,  # of the same storage
    "part": X[1:, 2:],
    "empty": torch.empty(0, 2, dtype=torch.int64),
    "types": ["drug", "gene"],
    "nested": OrderedDict(number=3, truth=True, nothing=None, mask=torch.tensor([True, False])),
}
FORMATS = {
    "zip": {},
    "first": {"_use_new_zipfile_serialization": False},
    "zip, protocol 4": {"pickle_protocol": 4},
    "first, protocol 4": {"_use_new_zipfile_serialization": False, "pickle_protocol": 4},
}


def same(a, b):
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, (np.ndarray, torch.Tensor)):
        return type(a) is type(b) and a.dtype == b.dtype and a.shape == b.shape and bool((a == b).all())
    return a == b


@pytest.mark.parametrize("name", FORMATS)
def test_content(tmp_path, name):
    path = tmp_path / "split.pt"
    torch.save(CONTENT, path, **FORMATS[name])
    assert same(read_torch_file(path), CONTENT)
    assert same(read_torch_file(path), torch.load(path, weights_only=False))


class Command:
    """What a hostile file has: a call."""

    def __reduce__(self):
        return os.system, ("touch attacked",)


@pytest.mark.parametrize("name", FORMATS)
def test_nothing_runs(tmp_path, name, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"edge": Command()}, "split.pt", **FORMATS[name])
    with pytest.raises(FormatError, match=r"split\.pt: expected tensors, arrays, dictionaries and lists, got .*system"):
        read_torch_file(tmp_path / "split.pt")
    assert not (tmp_path / "attacked").exists()
    torch.save(torch.nn.Linear(2, 2), "model.pt", **FORMATS[name])
    with pytest.raises(FormatError, match=r"got torch\.nn\.modules\.linear\.Linear"):
        read_torch_file(tmp_path / "model.pt")


@pytest.mark.parametrize("name", ["zip", "first"])
def test_damaged_files(tmp_path, name):
    """Whatever byte is changed or cut off, the content is read or an error names the file."""
    path, rng = tmp_path / "split.pt", np.random.default_rng(0)
    torch.save(CONTENT, path, **FORMATS[name])
    content, errors = path.read_bytes(), 0
    for number in range(80):
        changed = bytearray(content)
        if number % 4:
            changed[rng.integers(len(content))] = rng.integers(256)
        else:
            changed = changed[: rng.integers(len(content))]
        path.write_bytes(changed)
        try:
            read_torch_file(path)
        except FormatError as error:
            errors += str(path) in str(error)  # any other error fails the test
    assert errors > 10


def test_a_file_of_another_kind(tmp_path):
    path = tmp_path / "split.pt"
    path.write_bytes(b"".join(map(pickle.dumps, (1, 2, 3, {"edge": 1}, []))))
    with pytest.raises(FormatError, match=r"split\.pt: expected a file of torch\.save, got one of another kind"):
        read_torch_file(path)


def test_a_storage_larger_than_the_file(tmp_path):
    """An array of the size that the file claims is never made."""
    path = tmp_path / "split.pt"
    torch.save({"edge": torch.arange(1000)}, path, **FORMATS["first"])
    path.write_bytes(path.read_bytes().replace(pickle.dumps(1000, 2)[2:-1], b"J\xff\xff\xff\x7f"))
    with pytest.raises(FormatError, match=r"expected storages within the .* bytes of the file, got 2147483647"):
        read_torch_file(path)
