"""Heterogeneous convolution: a layer per edge type, whose outputs are combined at each node type."""

import re
from collections.abc import Callable, Collection, Mapping
from functools import reduce
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from gnnlib.graph import GraphLike, is_graph, relation_graph
from gnnlib.graph._check import graph_error
from gnnlib.graph._graph import EdgeType
from gnnlib.nn._arguments import Arguments, integer, one_of, reset_parameters
from gnnlib.nn.conv.base import empty, empty_linear
from gnnlib.nn.layer import apply_conv, check_callables

__all__ = ["HeteroConv", "SemanticAttention", "type_name"]

TypedFeatures = Mapping[str, Tensor]

AGGREGATES: dict[str, Callable[[list[Tensor]], Tensor]] = {
    "sum": lambda outputs: reduce(torch.add, outputs),
    "mean": lambda outputs: reduce(torch.add, outputs) / len(outputs),
    "max": lambda outputs: reduce(torch.maximum, outputs),
}
"""Of the outputs of the edge types that end in a node type, (N_dst, \\*, F) each."""


class HeteroConv(Arguments, nn.Module):
    r"""Heterogeneous convolution: any layer for each edge type, and the sum, the mean, the maximum or an attention over
    the edge types at each node type (Schlichtkrull et al. 2018, arXiv 1703.06103, equation 2, for the sum).

    .. math:: y_v = \operatorname*{aggregate}_{r \to t(v)} \mathrm{conv}_r(x)_v + \mathrm{self}_{t(v)}(x_v)

    where r are the edge types that end in the type t(v) of v.

    A node without in-edges of an edge type gets what the layer of this type gives such a node. The adjacency of each
    edge type is computed at the first call and stored with the graph. State dicts of ``dgl.nn.HeteroGraphConv`` load if
    those of its layers do.

    RGCN with a matrix per edge type, as in the Open Graph Benchmark, is ``GCNConv(..., norm="right", bias=False)`` for
    each edge type and a `Linear` for each node type in ``self_layers``.

    Args:
        convs: a layer of gnnlib or ``dgl.nn`` for each edge type of the graph: by name, or by (source type, name,
            destination type). A name stands for all edge types of this name
        aggregate: "sum", "mean", "max" (elementwise), or a module called on the stacked outputs (N_dst, R, \*, F), such
            as `SemanticAttention`
        self_layers: by node type, a module called on the features of the destinations, whose output is added

    Shapes:
        - x: by node type, (N, \*, in_feats), or a pair of such dicts, for the sources and for the destinations. In a
          block, the destinations are the first sources
        - edge: by edge type, what its layer takes
        - output: by node type, (N_dst, \*, out_feats), where an edge type ends or a self layer is given

    Raises:
        TypeError: if a layer is no module, or x no dict
        ValueError: if the edge types of the layers are not those of the graph, features are missing, or the outputs of
            the edge types of a node type differ in shape

    Example:
        >>> import torch
        >>> from gnnlib import GATConv, HeteroConv, SAGEConv
        >>> import dgl
        >>> g = dgl.heterograph({
        ...     ("user", "knows", "user"): ([0, 1], [1, 2]),
        ...     ("game", "played_by", "user"): ([0, 0, 1], [0, 1, 2]),
        ... })
        >>> conv = HeteroConv({"knows": SAGEConv(4, 8), "played_by": SAGEConv((5, 4), 8)}, aggregate="mean")
        >>> {ntype: y.shape for ntype, y in conv(g, {"user": torch.ones(3, 4), "game": torch.ones(2, 5)}).items()}
        {'user': torch.Size([3, 8])}
    """

    takes_types: ClassVar[bool] = True
    renamed: ClassVar = {"mods": "convs", "aggr": "aggregate"}

    def __init__(
        self,
        convs: Mapping[str | EdgeType, nn.Module],
        *,
        aggregate: str | nn.Module = "sum",
        self_layers: Mapping[str, nn.Module] | None = None,
    ):
        super().__init__()
        for name, layers in (("convs", convs), ("self_layers", self_layers or {})):
            if not isinstance(layers, Mapping):
                raise TypeError(f"HeteroConv: expected {name} to be a dict by type, got {type(layers).__name__}")
            check_callables(self, **{f"{name}[{key!r}]": layer for key, layer in layers.items()})
        if not convs:
            raise ValueError("HeteroConv: expected convs with a layer or more, got none")
        if not isinstance(aggregate, nn.Module):
            one_of(self, "aggregate", aggregate, tuple(AGGREGATES))
        self.etypes, self.self_types = list(convs), list(self_layers or {})
        self.convs = nn.ModuleDict({type_name(etype): conv for etype, conv in convs.items()})
        self.aggregate = aggregate
        self.self_layers = nn.ModuleDict({type_name(ntype): layer for ntype, layer in (self_layers or {}).items()})
        if len(self.convs) < len(convs) or len(self.self_layers) < len(self.self_types):
            raise ValueError(f"HeteroConv: expected types that differ in letters or digits, got {self.etypes}")
        for conv in convs.values():
            allow = getattr(conv, "set_allow_zero_in_degree", None)  # of dgl.nn
            if callable(allow):
                allow(True)

    def reset_parameters(self) -> None:
        """Draw all parameters anew."""
        reset_parameters(*self.children())

    def forward(
        self,
        graph: GraphLike,
        x: TypedFeatures | tuple[TypedFeatures, TypedFeatures],
        edge: Mapping[Any, Tensor] | None = None,
        *,
        ntypes: Collection[str] | None = None,
    ) -> dict[str, Tensor]:
        """Apply the layers.

        Args:
            graph: a graph or a block with several types
            x: node features by type
            edge: edge weights or edge features by edge type
            ntypes: the node types whose outputs are computed; None: all

        Shapes:
            as of the class

        Returns:
            the features of the destinations by type
        """
        if not is_graph(graph):
            raise graph_error("HeteroConv", graph) or TypeError("HeteroConv: expected a graph with types")
        ntypes = graph.dsttypes if ntypes is None else ntypes
        self._check_types(graph, edge or {}, ntypes)
        x_src, x_dst = self._features(graph, x)
        is_pair = graph.is_block or isinstance(x, tuple)
        outputs: dict[str, list[Tensor]] = {ntype: [] for ntype in graph.dsttypes}
        for etype in graph.canonical_etypes:
            source, _, destination = etype
            if destination not in ntypes:
                continue
            pair = x_src[source], x_dst.get(destination)
            features: Any = pair if is_pair or source != destination else x_src[source]
            values = _of_type(edge or {}, etype)
            conv, relation = self.convs[type_name(_type_in(self.etypes, etype))], relation_graph(graph, etype)
            outputs[destination].append(apply_conv("HeteroConv", conv, relation, features, values))
        aggregated = {ntype: self._aggregate(ntype, parts) for ntype, parts in outputs.items() if parts}
        for ntype in (ntype for ntype in self.self_types if ntype in ntypes):
            y = self.self_layers[type_name(ntype)](x_dst[ntype])
            aggregated[ntype] = aggregated[ntype] + y if ntype in aggregated else y
        return aggregated

    def _check_types(self, graph: GraphLike, edge: Mapping[Any, Tensor], ntypes: Collection[str]) -> None:
        kinds = graph.canonical_etypes
        missing = [kind for kind in kinds if _type_in(self.etypes, kind) is None]
        if missing:
            raise ValueError(f"HeteroConv: expected a layer for each edge type of the graph, got none for {missing}")
        for name, etypes in (("a layer", self.etypes), ("edge values", edge)):
            unknown = [etype for etype in etypes if not any(etype in (kind, kind[1]) for kind in kinds)]
            if unknown:
                raise ValueError(f"HeteroConv: expected edge types among {kinds}, got {name} for {unknown[0]!r}")
        for name, types in (("a self layer for ", self.self_types), ("ntypes with ", ntypes)):
            unknown = [ntype for ntype in types if ntype not in graph.dsttypes]
            if unknown:
                raise ValueError(f"HeteroConv: expected node types among {graph.dsttypes}, got {name}{unknown[0]!r}")

    def _features(self, graph: GraphLike, x: Any) -> tuple[TypedFeatures, TypedFeatures]:
        """The features of the sources and of the destinations, by type."""
        for part in x if isinstance(x, tuple) and len(x) == 2 else (x,):
            if not isinstance(part, Mapping):
                raise TypeError(
                    f"HeteroConv: expected x to be a dict of features by node type, got {type(part).__name__}"
                )
        if isinstance(x, tuple):
            x_src, x_dst = x
        elif graph.is_block:
            x_src, x_dst = x, {kind: x[kind][: graph.num_dst_nodes(kind)] for kind in graph.dsttypes if kind in x}
        else:
            x_src = x_dst = x
        missing = {kind[0] for kind in graph.canonical_etypes} - set(x_src) | set(self.self_types) - set(x_dst)
        if missing:
            raise ValueError(f"HeteroConv: expected features of the node types {sorted(missing)}, got {sorted(x_src)}")
        return x_src, x_dst

    def _aggregate(self, ntype: str, outputs: list[Tensor]) -> Tensor:
        shapes = [tuple(y.shape) for y in outputs]
        if len(set(shapes)) > 1:
            raise ValueError(
                f"HeteroConv: expected outputs of one shape from the edge types that end in {ntype!r}, got {shapes}"
            )
        if isinstance(self.aggregate, str):
            return AGGREGATES[self.aggregate](outputs)
        return self.aggregate(torch.stack(outputs, 1))

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        names = {f"{prefix}mods.{etype}.": f"{prefix}convs.{type_name(etype)}." for etype in self.etypes}  # of dgl.nn
        for other, ours in names.items():
            for name in [name for name in state_dict if name.startswith(other)]:
                state_dict[ours + name.removeprefix(other)] = state_dict.pop(name)
        super()._load_from_state_dict(state_dict, prefix, *rest)


def type_name(kind: str | EdgeType) -> str:
    """The name of the layer of a type."""
    return re.sub(r"\W", "_", kind if isinstance(kind, str) else "__".join(kind))


def _type_in(etypes: Any, kind: EdgeType) -> Any:
    """The edge type itself, or its name, if it is among some; None if neither is."""
    return next((etype for etype in (kind, kind[1]) if etype in etypes), None)


def _of_type(values: Mapping[Any, Tensor], kind: EdgeType) -> Tensor | None:
    return values.get(_type_in(values, kind))


class SemanticAttention(Arguments, nn.Module):
    r"""Attention over edge types (Wang et al. 2019, HAN, arXiv 1903.07293, equations 7 to 9).

    .. math:: y_v = \sum_r \beta_r z_{vr}, \qquad
        \beta = \operatorname{softmax}_r \frac{1}{N} \sum_v q \cdot \tanh(z_{vr} W + c)

    It is the ``aggregate`` of a `HeteroConv`, shared by all node types. The weight of an edge type is one number for
    all nodes of the call: the outputs of a batch or a sample are not those of its graphs.

    Args:
        feats: width of z
        hidden: width of the scores' hidden layer; 128 in the paper
        per_node: whether each node has weights of its own, from its own score, which differs from the paper

    Shapes:
        - z: (N, R, \*, feats)
        - output: (N, \*, feats)

    Raises:
        ValueError: if a width is below 1

    Example:
        >>> import torch
        >>> from gnnlib import SemanticAttention
        >>> SemanticAttention(8)(torch.ones(5, 3, 8)).shape
        torch.Size([5, 8])
    """

    renamed: ClassVar = {"in_size": "feats", "in_channels": "feats", "in_feats": "feats", "hidden_size": "hidden"}

    def __init__(self, feats: int, *, hidden: int = 128, per_node: bool = False):
        super().__init__()
        self.feats, self.hidden = integer(self, "feats", feats), integer(self, "hidden", hidden)
        self.per_node = per_node
        self.project, self.query = empty_linear(self.feats, self.hidden), empty(self.hidden)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw W and q as Glorot and Bengio (2010) do; c is 0."""
        nn.init.xavier_uniform_(self.project.weight)
        nn.init.zeros_(self.project.bias)
        bound = (6 / (1 + self.hidden)) ** 0.5
        nn.init.uniform_(self.query, -bound, bound)

    def forward(self, z: Tensor) -> Tensor:
        """The weighted sum over edge types.

        Args:
            z: the outputs of the edge types

        Shapes:
            as of the class

        Returns:
            the sums
        """
        if z.dim() < 3 or z.shape[-1] != self.feats:
            raise ValueError(f"SemanticAttention: expected z of shape (N, R, ..., {self.feats}), got {tuple(z.shape)}")
        score = self.project(z).tanh() @ self.query
        if not self.per_node and len(z):
            score = score.mean([axis for axis in range(score.dim()) if axis != 1], keepdim=True)
        return (score.softmax(1).unsqueeze(-1) * z).sum(1)
