"""Fashion-MNIST: 60000 + 10000 pictures of clothes of 28x28 pixels, in MNIST's format."""

from pathlib import Path

import torch

from gnnlib.datasets._mnist import read_images
from gnnlib.datasets.files import Folder, find

__all__ = ["FASHION", "fashion"]

FASHION = ("T-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot")
URL = "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/"
MD5 = {
    "train-images-idx3-ubyte.gz": "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
    "train-labels-idx1-ubyte.gz": "25c81989df183df01b3e8a0aad5dffbe",
    "t10k-images-idx3-ubyte.gz": "bef4ecab320f06d8554ea6380940ec79",
    "t10k-labels-idx1-ubyte.gz": "bb300cfdad3c16e7a12a480ee83cd310",
}
INSTALLED = Path("/usr/share/datasets/fashion-mnist")  # by Debian's package dataset-fashion-mnist


def fashion(data: Folder = None, train: bool = True) -> tuple[torch.Tensor, torch.Tensor]:
    """Fashion-MNIST (Xiao, Rasul, Vollgraf 2017, arXiv 1708.07747): ten kinds of clothes, whose names are `FASHION`.

    Args:
        data: a directory with ``fashion-mnist/``, which has the idx files in it; else ``GNNLIB_DATA``, else where
            Debian's package dataset-fashion-mnist puts them, else downloaded. Beside ``fashion-mnist/`` no file is
            taken: MNIST's have the same names.
        train: the 60000 training images, else the 10000 test images.

    Returns:
        images (n, 28, 28), uint8, rows from the top, 0 background to 255; labels (n,), int64, 0 to 9.

    Raises:
        FileNotFoundError, DownloadError, FormatError: as `gnnlib.datasets.mnist`.

    >>> images, labels = fashion()  # doctest: +SKIP
    >>> images.shape, FASHION[labels[0]]  # doctest: +SKIP
    (torch.Size([60000, 28, 28]), 'ankle boot')
    """

    def file(name: str) -> Path:
        own = f"fashion-mnist/{name}"
        return find(own, data, URL + name, md5=MD5[name], installed=INSTALLED / name, alone=False)

    return read_images(file, train)
