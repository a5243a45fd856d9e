"""``torch_geometric.nn`` with the layers on gnnlib's kernels: a script of PyTorch Geometric changes one import.

``from torch_geometric.nn import GCNConv, global_mean_pool`` becomes
``from gnnlib.compat.pyg_nn import GCNConv, global_mean_pool``.

The layers are subclasses of PyG's: arguments, defaults, parameters, state dicts and errors are PyG's, and
``isinstance`` holds. Self-loops and normalisation are computed by PyG's functions, once for each ``edge_index``, and
stored beside it; they are computed again after a change. Other names, such as norms and pools, are PyG's own.

Calls that the kernels do not serve run PyG's code: tensors on a GPU, autocast, ``torch.compile``, TorchScript,
explainers, ``EdgeIndex`` and ``SparseTensor``, static graphs (x of three axes), subclasses with another ``message``,
and small calls, where PyG has less overhead.
"""

from typing import Any

try:
    from torch_geometric import nn as _pyg
except ModuleNotFoundError as error:
    if error.name != "torch_geometric":
        raise
    raise ModuleNotFoundError(
        "gnnlib.compat.pyg_nn: expected PyTorch Geometric, whose layers it runs, got none; "
        "write pip install torch_geometric",
        name="torch_geometric",
    ) from None

from gnnlib.compat.pyg_nn._routing import calls
from gnnlib.compat.pyg_nn.attention import GATConv, GATv2Conv
from gnnlib.compat.pyg_nn.edge_features import GMMConv, NNConv, ResGatedGraphConv
from gnnlib.compat.pyg_nn.models import GAT, GCN, GIN, PNA, GraphSAGE, from_pyg
from gnnlib.compat.pyg_nn.neighbours import GINConv, GINEConv, GraphConv, SAGEConv, SimpleConv
from gnnlib.compat.pyg_nn.pna import PNAConv
from gnnlib.compat.pyg_nn.propagation import (
    APPNP,
    ARMAConv,
    ChebConv,
    GCN2Conv,
    GCNConv,
    LGConv,
    SGConv,
    TAGConv,
)

__all__ = [
    "APPNP",
    "ARMAConv",
    "ChebConv",
    "GAT",
    "GATConv",
    "GATv2Conv",
    "GCN",
    "GCN2Conv",
    "GCNConv",
    "GIN",
    "GINConv",
    "GINEConv",
    "GMMConv",
    "GraphConv",
    "GraphSAGE",
    "LGConv",
    "NNConv",
    "PNA",
    "PNAConv",
    "ResGatedGraphConv",
    "SAGEConv",
    "SGConv",
    "SimpleConv",
    "TAGConv",
    "calls",
    "from_pyg",
]


def __getattr__(name: str) -> Any:
    """A name of PyG that gnnlib does not replace."""
    return getattr(_pyg, name)
