"""The tasks by name."""

from gnnlib.benchmarks.tasks.base import Options, Task
from gnnlib.benchmarks.tasks.cnn import CNN, Fashion, LeNet
from gnnlib.benchmarks.tasks.equivariance import Equivariance
from gnnlib.benchmarks.tasks.few_labels import FewLabels
from gnnlib.benchmarks.tasks.heterophilous import HETEROPHILOUS
from gnnlib.benchmarks.tasks.links import LinksCora, LinksPlanted, LinksPubMed
from gnnlib.benchmarks.tasks.molecules import MUTAG, PROTEINS
from gnnlib.benchmarks.tasks.nodes import CiteSeer, Cora, PubMed
from gnnlib.benchmarks.tasks.ogb_graphs import ogb_graph_tasks
from gnnlib.benchmarks.tasks.ogb_links import DDI, PPA, BioKG, Citation2, Collab, Vessel, WikiKG2
from gnnlib.benchmarks.tasks.ogb_nodes import Arxiv, Mag, Papers100M, Products, Proteins
from gnnlib.benchmarks.tasks.partitioned import Partitioned
from gnnlib.benchmarks.tasks.pixels import MNIST, Digits
from gnnlib.benchmarks.tasks.planted import Planted
from gnnlib.benchmarks.tasks.sphere import Sphere
from gnnlib.benchmarks.tasks.superpixels import (
    CIFARSuperpixels,
    DigitsSuperpixels,
    FashionSuperpixels,
    MNISTSuperpixels,
)
from gnnlib.benchmarks.tasks.transfer import Transfer
from gnnlib.benchmarks.tasks.tutorial import Tutorial

GROUPS: dict[str, list[type[Task]]] = {
    "pixels": [Digits, MNIST, LeNet, CNN, Fashion, Tutorial],
    "superpixels": [DigitsSuperpixels, MNISTSuperpixels, FashionSuperpixels, CIFARSuperpixels],
    "symmetry": [Transfer, Equivariance, Sphere],
    "nodes": [Cora, CiteSeer, PubMed, FewLabels, *HETEROPHILOUS],
    "links": [LinksCora, LinksPubMed, LinksPlanted, DDI, Collab, PPA, Citation2, Vessel, WikiKG2, BioKG],
    "large graphs": [Planted, Arxiv, Mag, Products, Proteins, Papers100M, Partitioned],
    "molecules": [MUTAG, PROTEINS, *ogb_graph_tasks()],
}
"""The tasks by what they are about."""

TASKS = {task.name: task for group in GROUPS.values() for task in group}

__all__ = ["GROUPS", "TASKS", "Options", "Task"]
