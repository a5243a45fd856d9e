"""The tasks by name."""

from benchmarks.tasks.base import Options, Task
from benchmarks.tasks.cnn import CNN, Fashion, LeNet
from benchmarks.tasks.equivariance import Equivariance
from benchmarks.tasks.few_labels import FewLabels
from benchmarks.tasks.links import LinksCora, LinksPubMed
from benchmarks.tasks.molecules import MUTAG, PROTEINS
from benchmarks.tasks.nodes import CiteSeer, Cora, PubMed
from benchmarks.tasks.ogb_graphs import ogb_graph_tasks
from benchmarks.tasks.ogb_nodes import Arxiv, Mag, Papers100M, Products, Proteins
from benchmarks.tasks.partitioned import Partitioned
from benchmarks.tasks.pixels import MNIST, Digits
from benchmarks.tasks.planted import Planted
from benchmarks.tasks.sphere import Sphere
from benchmarks.tasks.superpixels import CIFARSuperpixels, DigitsSuperpixels, FashionSuperpixels, MNISTSuperpixels
from benchmarks.tasks.transfer import Transfer
from benchmarks.tasks.tutorial import Tutorial

ALL: list[type[Task]] = [
    Digits,
    MNIST,
    DigitsSuperpixels,
    MNISTSuperpixels,
    FashionSuperpixels,
    CIFARSuperpixels,
    LeNet,
    CNN,
    Fashion,
    Tutorial,
    Transfer,
    Equivariance,
    Sphere,
    Cora,
    CiteSeer,
    PubMed,
    LinksCora,
    LinksPubMed,
    FewLabels,
    MUTAG,
    PROTEINS,
    *ogb_graph_tasks(),
    Planted,
    Arxiv,
    Mag,
    Products,
    Proteins,
    Papers100M,
    Partitioned,
]
TASKS = {task.name: task for task in ALL}

__all__ = ["TASKS", "Options", "Task"]
