"""Loaders of data sets: digits, MNIST, CIFAR-10, Planetoid, TU, OGB and others.

A loader that needs files searches the directory ``data`` (default: the environment variable ``GNNLIB_DATA``), and
otherwise downloads them to the user's cache (``GNNLIB_CACHE``, default ``~/.cache/gnnlib``). The checksum of a download
is verified; of the user's own files only the structure is.

Example:
    >>> from gnnlib import datasets
    >>> images, labels = datasets.digits(train=False)
    >>> images.shape, labels.shape
    (torch.Size([450, 8, 8]), torch.Size([450]))
"""

from gnnlib.datasets._digits import digits
from gnnlib.datasets._fashion import FASHION, fashion
from gnnlib.datasets._heterophilous import HETEROPHILOUS, heterophilous
from gnnlib.datasets._mnist import mnist
from gnnlib.datasets._ogb_links import LinkMetric
from gnnlib.datasets._planetoid import planetoid, row_normalise
from gnnlib.datasets._planted import planted
from gnnlib.datasets._superpixels import superpixels
from gnnlib.datasets._tu import ten_folds, tu
from gnnlib.datasets.cifar import CIFAR10, cifar10
from gnnlib.datasets.files import DownloadError, FormatError
from gnnlib.datasets.links import Links, LinkSplit, link_split
from gnnlib.datasets.ogb import Metric, OGBDataset, ogb_graphs, ogb_links, ogb_names, ogb_nodes

__all__ = [
    "CIFAR10",
    "FASHION",
    "HETEROPHILOUS",
    "DownloadError",
    "FormatError",
    "LinkMetric",
    "LinkSplit",
    "Links",
    "Metric",
    "cifar10",
    "digits",
    "fashion",
    "heterophilous",
    "link_split",
    "mnist",
    "OGBDataset",
    "ogb_graphs",
    "ogb_links",
    "ogb_names",
    "ogb_nodes",
    "planetoid",
    "planted",
    "row_normalise",
    "superpixels",
    "ten_folds",
    "tu",
]
