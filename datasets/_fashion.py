"""Fashion-MNIST (Xiao, Rasul, Vollgraf, 2017): 60000 + 10000 pictures of clothes of 28x28 pixels."""

from pathlib import Path

import torch

from gnnlib._utils.calls import names_checked
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


@names_checked()
def fashion(data: Folder = None, train: bool = True) -> tuple[torch.Tensor, torch.Tensor]:
    """Fashion-MNIST (Xiao, Rasul, Vollgraf 2017, arXiv 1708.07747): ten kinds of clothes, whose names are `FASHION`.

    Args:
        data: a directory with the idx files in ``fashion-mnist/``; else ``GNNLIB_DATA``, else the files of Debian's
            package dataset-fashion-mnist, else downloaded. Files outside ``fashion-mnist/`` are ignored, because
            MNIST's have the same names.
        train: the 60000 training images, else the 10000 test images.

    Returns:
        images (n, 28, 28), uint8, rows from the top, 0 background to 255; labels (n,), int64, 0 to 9.

    Raises:
        FileNotFoundError: as :func:`gnnlib.datasets.mnist`.
        DownloadError: as there.
        FormatError: as there.

    Example:
        >>> from gnnlib.datasets import FASHION, fashion
        >>> images, labels = fashion()  # doctest: +SKIP
        >>> images.shape, FASHION[labels[0]]  # doctest: +SKIP
        (torch.Size([60000, 28, 28]), 'ankle boot')
    """

    def file(name: str) -> Path:
        path, installed = f"fashion-mnist/{name}", INSTALLED / name
        return find(path, data, URL + name, md5=MD5[name], installed=installed, subfolder_only=True)

    return read_images(file, train)
