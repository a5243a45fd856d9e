"""MNIST (LeCun et al., 1998): 60000 + 10000 handwritten digits of 28x28 pixels."""

from collections.abc import Callable
from pathlib import Path

import torch

from gnnlib._utils.calls import names_checked
from gnnlib.datasets.files import Folder, FormatError, find
from gnnlib.datasets.idx import read_idx

__all__ = ["mnist"]

URL = "https://ossci-datasets.s3.amazonaws.com/mnist/"
SHA256 = {
    "train-images-idx3-ubyte.gz": "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
    "train-labels-idx1-ubyte.gz": "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
    "t10k-images-idx3-ubyte.gz": "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
    "t10k-labels-idx1-ubyte.gz": "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
}


@names_checked()
def mnist(data: Folder = None, train: bool = True) -> tuple[torch.Tensor, torch.Tensor]:
    """MNIST (LeCun, Bottou, Bengio, Haffner 1998, "Gradient-based learning applied to document recognition").

    Args:
        data: a directory with the idx files, in it or in ``mnist/``; else ``GNNLIB_DATA``, else downloaded.
        train: the 60000 training images, else the 10000 test images.

    Returns:
        images (n, 28, 28), uint8, rows from the top, 0 background to 255 ink; labels (n,), int64, 0 to 9.

    Raises:
        FileNotFoundError: if the data directory does not exist.
        DownloadError: if a file is not found and the download fails.
        FormatError: if a file has another magic number, is truncated, or its images are not 28x28.
        FormatError: if a label is above 9, or the number of labels differs from that of images.

    Example:
        >>> from gnnlib.datasets import mnist
        >>> images, labels = mnist()  # doctest: +SKIP
        >>> images.shape, images.dtype, labels.shape  # doctest: +SKIP
        (torch.Size([60000, 28, 28]), torch.uint8, torch.Size([60000]))
    """
    return read_images(lambda name: find(f"mnist/{name}", data, URL + name, SHA256[name]), train)


def read_images(file: Callable[[str], Path], train: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Images and labels of one part, from idx files with the names of MNIST's.

    Args:
        file: function from a file's public name to its path.
        train: the training part, else the test part.

    Raises:
        FormatError: as :func:`mnist`.
    """
    part = "train" if train else "t10k"
    image_file, label_file = (file(f"{part}-{what}-ubyte.gz") for what in ("images-idx3", "labels-idx1"))
    images = torch.from_numpy(read_idx(image_file, magic=0x803))
    labels = torch.from_numpy(read_idx(label_file, magic=0x801)).long()
    if images.shape[1:] != (28, 28):
        raise FormatError(f"{image_file}: expected images of 28x28, got {'x'.join(map(str, images.shape[1:]))}")
    if len(images) != len(labels):
        raise FormatError(f"{label_file}: expected {len(images)} labels, as many as images, got {len(labels)}")
    if len(labels) and int(labels.max()) > 9:
        raise FormatError(f"{label_file}: expected labels 0 to 9, got {int(labels.max())}")
    return images, labels
