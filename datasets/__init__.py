"""Loaders of the data sets that the benchmarks and tests read, one a file; no model code.

Every loader that needs files takes ``data``, a directory (else ``GNNLIB_DATA``), looks there first, and only then
downloads from the public address into the user's cache (``GNNLIB_CACHE``, else ``~/.cache/gnnlib``). A checksum is
checked on what is downloaded; of a file that the user points to only the structure is checked.

>>> from gnnlib import datasets
>>> images, labels = datasets.digits(train=False)
>>> images.shape, labels.shape
(torch.Size([450, 8, 8]), torch.Size([450]))
"""

from gnnlib.datasets._digits import digits
from gnnlib.datasets._fashion import FASHION, fashion
from gnnlib.datasets._mnist import mnist
from gnnlib.datasets._planetoid import planetoid, row_normalise
from gnnlib.datasets._planted import planted
from gnnlib.datasets._superpixels import superpixels
from gnnlib.datasets._tu import ten_folds, tu
from gnnlib.datasets.cifar import CIFAR10, cifar10
from gnnlib.datasets.files import DownloadError, FormatError
from gnnlib.datasets.links import Links, LinkSplit, link_split
from gnnlib.datasets.ogb import Metric, ogb_graphs, ogb_names, ogb_nodes

__all__ = [
    "CIFAR10",
    "FASHION",
    "DownloadError",
    "FormatError",
    "LinkSplit",
    "Links",
    "Metric",
    "cifar10",
    "digits",
    "fashion",
    "link_split",
    "mnist",
    "ogb_graphs",
    "ogb_names",
    "ogb_nodes",
    "planetoid",
    "planted",
    "row_normalise",
    "superpixels",
    "ten_folds",
    "tu",
]
