"""PyG's models on gnnlib's kernels."""

from typing import Any, TypeVar

from torch import nn
from torch_geometric import nn as pyg

from gnnlib._utils.calls import names_checked
from gnnlib.compat.pyg_nn import attention, edge_features, neighbours, pna, propagation

__all__ = ["GAT", "GCN", "GIN", "PNA", "GraphSAGE", "from_pyg"]

Module = TypeVar("Module", bound=nn.Module)
LAYERS = {
    getattr(pyg, name): getattr(family, name)
    for family in (attention, edge_features, neighbours, pna, propagation)
    for name in family.__all__
}
"""The layer on gnnlib's kernels for each class of PyG."""


@names_checked()
def from_pyg(module: Module) -> Module:
    """Puts PyG's layers in a module on gnnlib's kernels. The module itself changes; parameters are untouched.

    Args:
        module: a layer, or a model of any classes; layers that gnnlib does not have stay PyG's

    Returns:
        the module

    Raises:
        TypeError: if it is no module

    Example:
        >>> from torch_geometric.nn import GCN
        >>> from gnnlib.compat.pyg_nn import from_pyg
        >>> model = from_pyg(GCN(8, 16, num_layers=2))
        >>> type(model.convs[0]).__module__
        'gnnlib.compat.pyg_nn.propagation'
    """
    if not isinstance(module, nn.Module):
        raise TypeError(f"from_pyg: expected a torch.nn.Module, got {type(module).__name__}")
    for layer in module.modules():
        layer.__class__ = LAYERS.get(type(layer), type(layer))
    return module


class _KernelModel:
    """Base of the models: before PyG's class among the bases."""

    def init_conv(self, *args: Any, **options: Any) -> Any:
        """A layer."""
        return from_pyg(super().init_conv(*args, **options))  # type: ignore[misc]


class GCN(_KernelModel, pyg.GCN):
    """``torch_geometric.nn.GCN`` with layers on gnnlib's kernels."""


class GraphSAGE(_KernelModel, pyg.GraphSAGE):
    """``torch_geometric.nn.GraphSAGE`` with layers on gnnlib's kernels."""


class GIN(_KernelModel, pyg.GIN):
    """``torch_geometric.nn.GIN`` with layers on gnnlib's kernels."""


class GAT(_KernelModel, pyg.GAT):
    """``torch_geometric.nn.GAT`` with layers on gnnlib's kernels."""


class PNA(_KernelModel, pyg.PNA):
    """``torch_geometric.nn.PNA`` with layers on gnnlib's kernels."""
