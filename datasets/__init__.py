"""Loaders of the data sets that the benchmarks and tests read, one a file; no model code.

Every loader that needs files takes ``data``, a directory (else ``GNNLIB_DATA``), looks there first, and only then
downloads from the public address into the user's cache (``GNNLIB_CACHE``, else ``~/.cache/gnnlib``). A checksum is
checked on what is downloaded; of a file that the user points to only the structure is checked.

>>> import datasets
>>> images, labels = datasets.digits(train=False)
>>> images.shape, labels.shape
(torch.Size([450, 8, 8]), torch.Size([450]))
"""

from .cifar import CIFAR10, cifar10
from .digits import digits
from .fashion import FASHION, fashion
from .files import DownloadError, FormatError
from .links import Links, LinkSplit, link_split
from .mnist import mnist
from .ogb import Metric, ogb_graphs, ogb_names, ogb_nodes
from .planetoid import planetoid, row_normalise
from .planted import planted
from .superpixels import superpixels
from .tu import ten_folds, tu

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
