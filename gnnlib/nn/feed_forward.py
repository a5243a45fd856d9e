"""Feed-forward block after a layer, as in Transformers; on graphs in GNN+ (Luo et al. 2025)."""

from collections.abc import Callable
from typing import ClassVar

from torch import Tensor, nn

from gnnlib.graph import GraphLike
from gnnlib.nn._arguments import Arguments, integer, probability, reset_parameters
from gnnlib.nn.drop import Dropout
from gnnlib.nn.norm import BatchNorm
from gnnlib.ops.linear import Linear

__all__ = ["FeedForward"]


class FeedForward(Arguments, nn.Module):
    r"""Feed-forward block with a residual connection and a normalisation (Luo et al. 2025, GNN+, arXiv 2502.09263).

    .. math:: y = \mathrm{Norm}\big(x + \mathrm{ReLU}(x W_1 + b_1)\, W_2 + b_2\big)

    It transforms the features of each node, after a layer has mixed those of neighbours. It is the ``feed_forward`` of
    a `GNNLayer`, and follows its activation. Dropout comes after the ReLU and after the second product, as in the
    authors' code.

    Args:
        feats: width of x
        hidden: width between the two products; None for 2 feats, as in the authors' code
        norm: factory of the normalisation, called as ``norm(feats)``, such as `LayerNorm`; None for no normalisation
        dropout: probability that an entry is dropped

    Shapes:
        - x: (N, \*, feats)
        - output: the same

    Raises:
        TypeError: if norm is no class or function

    Example:
        >>> import torch
        >>> from gnnlib import FeedForward, GCNConv, Stack
        >>> import dgl
        >>> g, x = dgl.graph(([0, 1], [1, 0])), torch.ones(2, 4)
        >>> FeedForward(4)(g, x).shape
        torch.Size([2, 4])
        >>> Stack.build(GCNConv, 4, 8, 3, num_layers=4, skip="residual", feed_forward=FeedForward)(g, x).shape
        torch.Size([2, 3])
    """

    renamed: ClassVar = {
        **dict.fromkeys(("in_channels", "in_feats", "channels", "dim"), "feats"),
        **dict.fromkeys(("hidden_channels", "hidden_feats", "hidden_dim"), "hidden"),
        "drop": "dropout",
    }

    def __init__(
        self,
        feats: int,
        *,
        hidden: int | None = None,
        norm: Callable[[int], nn.Module] | None = BatchNorm,
        dropout: float = 0.0,
    ):
        super().__init__()
        self.feats = integer(self, "feats", feats)
        self.hidden = integer(self, "hidden", 2 * feats if hidden is None else hidden)
        if norm is not None and (isinstance(norm, nn.Module) or not callable(norm)):
            raise TypeError(f"FeedForward: expected norm to be a class, such as BatchNorm, or None, got {norm!r}")
        self.expand, self.reduce = Linear(feats, self.hidden), Linear(self.hidden, feats)
        self.dropout = Dropout(probability(self, "dropout", dropout))
        self.norm = None if norm is None else norm(feats)

    def reset_parameters(self) -> None:
        """Draw all parameters anew."""
        reset_parameters(*self.children())

    def forward(self, graph: GraphLike, x: Tensor) -> Tensor:
        """Apply the block.

        Args:
            graph: passed to the normalisation
            x: node features, (N, \\*, feats)

        Returns:
            Features of the same shape.
        """
        y = x + self.dropout(self.reduce(self.dropout(self.expand(x).relu())))
        return y if self.norm is None else self.norm(graph, y)
