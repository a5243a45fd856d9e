"""Standardisation of node features, fitted on training data."""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from gnnlib._utils.calls import names_checked
from gnnlib.data import GraphStore
from gnnlib.graph import GraphLike, is_graph
from gnnlib.graph._convert import convert_graph

__all__ = ["Standardize"]

ROWS = 1 << 16  # at a time
GRAPHS = 1 << 8  # at a time, so that a store on disk is not in memory


@names_checked(mean="model, mean, std, or Standardize.fit(model, data)")
class Standardize(nn.Module):
    r"""A model of standardised node features (scikit-learn's ``StandardScaler``): mean 0 and standard deviation 1 in
    each column of the training data.

    .. math:: x' = \frac{x - \mu}{\sigma}

    Mean and deviation are buffers: the optimizer does not change them, and they are saved and loaded with the model.

    Args:
        model: called as ``model(graph, x)``, or ``model(graph, x, edge)`` if there are edge features
        mean: of each column
        std: of each column; a constant column, whose deviation is 0, is divided by 1

    Shapes:
        - mean, std: (F,)
        - x: (N, \*, F)
        - output: as of ``model``

    Raises:
        TypeError: if the model is no module
        ValueError: if mean and std are not of one shape (F,), finite and at least 0

    Example:
        >>> import torch
        >>> from gnnlib import GCNConv, Standardize
        >>> import dgl
        >>> graph = dgl.graph(([0, 1], [1, 0]))
        >>> graph.ndata["feat"] = torch.tensor([[0.0, 5.0], [20.0, 5.0]])
        >>> model = Standardize.fit(GCNConv(2, 3), graph)
        >>> model.mean.tolist(), model.std.tolist(), model(graph, graph.ndata["feat"]).shape
        ([10.0, 5.0], [10.0, 1.0], torch.Size([2, 3]))
    """

    mean: Tensor
    std: Tensor

    def __init__(self, model: nn.Module, mean: Tensor, std: Tensor):
        super().__init__()
        if not isinstance(model, nn.Module):
            raise TypeError(f"Standardize: expected a module, got {model!r}")
        mean, std = torch.as_tensor(mean).detach().clone(), torch.as_tensor(std).detach().clone()
        if mean.dim() != 1 or mean.shape != std.shape or not (mean.isfinite() & std.isfinite() & (std >= 0)).all():
            raise ValueError(
                "Standardize: expected finite mean and std of one shape (F,), std at least 0, got "
                f"{tuple(mean.shape)} and {tuple(std.shape)}"
            )
        self.model = model
        self.register_buffer("mean", mean)
        self.register_buffer("std", std.masked_fill(std == 0, 1.0))

    @classmethod
    @names_checked(train="data=")
    def fit(cls, model: nn.Module, data: GraphStore | GraphLike | Tensor, feature: str = "feat") -> "Standardize":
        """The model with the mean and deviation of training data.

        Args:
            model: of the standardised features
            data: a store, a graph or a batch, or the features (N, F): of the training data alone
            feature: the node features are ``ndata[feature]``

        Returns:
            the standardised model, in which ``model`` is a part

        Raises:
            TypeError: if the data are none of these
            KeyError: if the graphs have no such features, with the names that they have
            ValueError: if the features are not finite, or of another shape
        """
        num_rows, total = 0, torch.zeros((), dtype=torch.float64)
        for rows in _rows(data, feature):
            num_rows, total = num_rows + len(rows), total + rows.double().sum(0)
        if num_rows == 0:
            raise ValueError("Standardize: expected features (N, F) of one node or more, got none")
        mean = total / num_rows
        squares = torch.zeros_like(mean)
        for rows in _rows(data, feature):
            squares += (rows.double() - mean).square().sum(0)
        return cls(model, mean.to(rows.dtype), (squares / num_rows).sqrt().to(rows.dtype))

    def forward(self, graph: Any, x: Tensor, edge: Any = None) -> Any:
        """Apply the model to standardised features.

        Args:
            graph: as the model takes it
            x: node features
            edge: edge weights or features, which are not changed; None: the model is called without

        Shapes:
            as of the class

        Returns:
            the output of the model
        """
        if x.shape[-1] != len(self.mean):
            raise ValueError(f"Standardize: expected x of shape (N, ..., {len(self.mean)}), got {tuple(x.shape)}")
        x = (x - self.mean) / self.std
        return self.model(graph, x) if edge is None else self.model(graph, x, edge)


def _rows(data: GraphStore | GraphLike | Tensor, feature: str) -> Iterator[Tensor]:
    """The features of all nodes, some rows (n, F) at a time."""
    for x in _parts(data, feature):
        if x.dim() != 2 or not x.is_floating_point():
            raise ValueError(f"Standardize: expected features (N, F) of floating point, got {x.dtype} {tuple(x.shape)}")
        yield from x.detach().split(ROWS)


def _parts(data: GraphStore | GraphLike | Tensor, feature: str) -> Iterator[Tensor]:
    if isinstance(data, Tensor):
        yield data
    elif isinstance(data, GraphStore):
        yield from (_column(data[i : i + GRAPHS].ndata, feature) for i in range(0, len(data), GRAPHS))
    else:
        graph = convert_graph(data, None, "Standardize")
        if not is_graph(graph):
            got = type(data).__name__
            raise TypeError(f"Standardize: expected a GraphStore, a graph or a tensor (N, F), got {got}")
        yield _column(graph.ndata, feature)


def _column(columns: Mapping[str, Tensor], feature: str) -> Tensor:
    if feature not in columns:
        raise KeyError(f"Standardize: expected graphs with {feature!r}, got {sorted(map(str, columns))}")
    return columns[feature]
