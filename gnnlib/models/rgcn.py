"""RGCN: relational graph convolutional network on a graph with types."""

from collections.abc import Collection, Mapping, Sequence
from itertools import pairwise
from typing import Any, ClassVar

from torch import Tensor, nn

from gnnlib.graph import GraphLike
from gnnlib.graph._graph import EdgeType
from gnnlib.nn._arguments import Arguments, integer, probability, reset_parameters
from gnnlib.nn.conv import GCNConv
from gnnlib.nn.drop import Dropout
from gnnlib.nn.hetero import HeteroConv, type_name
from gnnlib.ops.linear import Linear

__all__ = ["RGCN"]


class RGCN(Arguments, nn.Module):
    r"""Relational graph convolutional network (Schlichtkrull et al. 2018, arXiv 1703.06103) on a graph with types, as
    in the Open Graph Benchmark (Hu et al. 2020, arXiv 2005.00687). Nodes without features have learned embeddings.

    .. math:: h_v' = \mathrm{ReLU}\Big(\sum_{r \to t(v)} \frac{1}{d_{v,r}} \sum_{u \to v \in r} h_u W_r + h_v W_{t(v)}
        + c_{t(v)}\Big)

    with r the edge types that end in the type t(v) of v, and d_{v,r} the number of in-edges of v of type r. The ReLU
    and dropout follow each layer but the last.

    Differs from the paper: the matrices have no bases; each node type has a matrix W_t. On ogbn-mag, with the widths
    128, 64 and 349 and two layers, it has the 154,366,772 parameters of OGB's network.

    Args:
        etypes: the edge types of the graph, ``graph.canonical_etypes``
        in_feats: width of the features of all node types, and of the embeddings
        hidden_feats: width between the layers
        out_feats: width of the output
        num_layers: number of layers
        ntype: the node type of the output
        embeddings: for each node type without features, its number of nodes
        dropout: probability of dropout after the ReLU

    Shapes:
        - x: by node type, features (N, in_feats), or the numbers of the nodes, (N,) integers, for types with an
          embedding. A whole graph needs no numbers
        - output: (N_dst, out_feats), of the nodes of type ``ntype``

    Raises:
        ValueError: if a width is below 1, a node type is unknown, or features are missing

    Example:
        >>> import torch
        >>> from gnnlib.models import RGCN
        >>> import dgl
        >>> g = dgl.heterograph({
        ...     ("author", "writes", "paper"): ([0, 1], [0, 2]),
        ...     ("paper", "written_by", "author"): ([0, 2], [0, 1]),
        ... })
        >>> model = RGCN(g.canonical_etypes, 8, 16, 4, ntype="paper", embeddings={"author": 2})
        >>> model(g, {"paper": torch.ones(3, 8)}).shape
        torch.Size([3, 4])
    """

    renamed: ClassVar = {"in_channels": "in_feats", "hidden_channels": "hidden_feats", "out_channels": "out_feats"}
    takes_types: ClassVar[bool] = True
    shown_by_position: ClassVar[Collection[str] | None] = ("in_feats", "hidden_feats", "out_feats")

    def __init__(
        self,
        etypes: Sequence[EdgeType],
        in_feats: int,
        hidden_feats: int,
        out_feats: int,
        num_layers: int = 2,
        *,
        ntype: str,
        embeddings: Mapping[str, int] | None = None,
        dropout: float = 0.5,
    ):
        super().__init__()
        self.etypes: list[EdgeType] = list(etypes)
        self.in_feats, self.hidden_feats = (
            integer(self, "in_feats", in_feats),
            integer(self, "hidden_feats", hidden_feats),
        )
        self.out_feats = integer(self, "out_feats", out_feats)
        self.num_layers, self.ntype = integer(self, "num_layers", num_layers), ntype
        self.dropout = Dropout(probability(self, "dropout", dropout))
        ntypes = list(dict.fromkeys(end for source, _, destination in self.etypes for end in (source, destination)))
        for name in (ntype, *(embeddings or {})):
            if name not in ntypes:
                raise ValueError(f"RGCN: expected node types among {ntypes}, got {name!r}")
        self.embedding_types = list(embeddings or {})
        self.embeddings = nn.ModuleDict(
            {type_name(name): nn.Embedding(num, self.in_feats) for name, num in (embeddings or {}).items()}
        )
        widths = [self.in_feats, *[self.hidden_feats] * (num_layers - 1), self.out_feats]
        self.layers = nn.ModuleList(
            HeteroConv(
                {etype: GCNConv(before, after, norm="right", bias=False) for etype in self.etypes},
                self_layers={name: Linear(before, after) for name in ntypes},
            )
            for before, after in pairwise(widths)
        )
        self._draw_embeddings()

    def _draw_embeddings(self) -> None:
        for parameter in self.embeddings.parameters():
            nn.init.xavier_uniform_(parameter)

    def reset_parameters(self) -> None:
        """Draw all parameters anew."""
        reset_parameters(*self.children())
        self._draw_embeddings()

    def forward(self, graph: GraphLike | Sequence[GraphLike], x: Mapping[str, Tensor]) -> Tensor:
        """Apply the embeddings and the layers.

        Args:
            graph: a graph with types, or a list of blocks, one per layer
            x: node features by type, and numbers of the nodes of types with an embedding

        Shapes:
            as of the class

        Returns:
            scores of the nodes of one type
        """
        graphs: Any = graph if isinstance(graph, (list, tuple)) else [graph] * self.num_layers
        if len(graphs) != self.num_layers:
            raise ValueError(f"RGCN: expected {self.num_layers} blocks, one per layer, got {len(graphs)}")
        h = dict(x)
        for name in self.embedding_types:
            embedding: Any = self.embeddings[type_name(name)]
            h[name] = embedding(h[name].long()) if name in h else embedding.weight
        for layer, block in zip(self.layers[:-1], graphs):
            h = {name: self.dropout(y.relu()) for name, y in layer(block, h).items()}
        return self.layers[-1](graphs[-1], h, ntypes=[self.ntype])[self.ntype]
