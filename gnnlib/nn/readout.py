"""Global pooling, or readout: one vector for each graph of a batch.

A readout is called as ``readout(graph, x)`` with x (N, \\*, F) and returns (B, \\*, out_feats) for B graphs.
A message-flow graph (DGL block) counts as one graph. The modules are made as ``Readout(in_feats)`` and have
``in_feats`` and ``out_feats``. The reductions are functions too. Attention, Set2Set and SortPool are modules only.
"""

from collections.abc import Callable
from typing import ClassVar

import torch
from torch import Tensor, nn

from gnnlib._utils.calls import names_checked
from gnnlib.graph import Adjacency, GraphLike, check_num_rows, graph_sizes, node_to_graph, takes_graph
from gnnlib.graph._check import features_error
from gnnlib.nn._arguments import Arguments, integer, reset_parameters
from gnnlib.ops import aggregate, edge_dot, edge_softmax
from gnnlib.ops.linear import Linear, linear

__all__ = [
    "AttentionReadout",
    "FlatReadout",
    "MaxReadout",
    "MeanMaxReadout",
    "MeanReadout",
    "Set2Set",
    "SortPool",
    "SumReadout",
    "readout_flat",
    "readout_max",
    "readout_mean",
    "readout_mean_max",
    "readout_sum",
]


@names_checked()
@takes_graph()
def readout_sum(graph: GraphLike, x: Tensor) -> Tensor:
    """Sum over the nodes of each graph.

    Args:
        graph: a graph or a batch of B graphs
        x: node features

    Shapes:
        - x: (N, \\*, F)
        - output: (B, \\*, F)

    Returns:
        The sums; 0 for a graph without nodes.

    Example:
        >>> import torch
        >>> from gnnlib import readout_sum
        >>> import dgl
        >>> g = dgl.batch([dgl.graph(([0], [1])), dgl.graph(([], []), num_nodes=3)])
        >>> readout_sum(g, torch.ones(5, 2)).tolist()
        [[2.0, 2.0], [3.0, 3.0]]
    """
    return aggregate(_to_graphs("readout_sum", graph, x), x)


@names_checked()
@takes_graph()
def readout_mean(graph: GraphLike, x: Tensor) -> Tensor:
    """Mean over the nodes of each graph.

    Args:
        graph: a graph or a batch of B graphs
        x: node features

    Shapes:
        - x: (N, \\*, F)
        - output: (B, \\*, F)

    Returns:
        The means; 0 for a graph without nodes.
    """
    return aggregate(_to_graphs("readout_mean", graph, x), x, reduce="mean")


@names_checked()
@takes_graph()
def readout_max(graph: GraphLike, x: Tensor) -> Tensor:
    """Maximum over the nodes of each graph, for each feature.

    Args:
        graph: a graph or a batch of B graphs
        x: node features

    Shapes:
        - x: (N, \\*, F)
        - output: (B, \\*, F)

    Returns:
        The maxima; 0 for a graph without nodes.
    """
    return aggregate(_to_graphs("readout_max", graph, x), x, reduce="max")


@names_checked()
@takes_graph()
def readout_mean_max(graph: GraphLike, x: Tensor) -> Tensor:
    """Mean and maximum over the nodes of each graph, concatenated.

    Args:
        graph: a graph or a batch of B graphs
        x: node features

    Shapes:
        - x: (N, \\*, F)
        - output: (B, \\*, 2 F)

    Returns:
        The means, then the maxima; 0 for a graph without nodes.

    Example:
        >>> import torch
        >>> from gnnlib import readout_mean_max
        >>> import dgl
        >>> readout_mean_max(dgl.graph(([0], [1])), torch.tensor([[1.0], [3.0]])).tolist()
        [[2.0, 3.0]]
    """
    return torch.cat([readout_mean(graph, x), readout_max(graph, x)], -1)


@names_checked()
@takes_graph()
def readout_flat(graph: GraphLike, x: Tensor) -> Tensor:
    """Features of all nodes of each graph, concatenated: a linear layer on them has a weight for each position.

    Args:
        graph: a graph or a batch of B graphs of n nodes each
        x: node features

    Shapes:
        - x: (N, \\*, F)
        - output: (B, \\*, n F)

    Returns:
        The features in the order of the nodes.

    Raises:
        ValueError: if the graphs differ in their number of nodes

    Example:
        >>> import torch
        >>> from gnnlib import readout_flat
        >>> import dgl
        >>> g = dgl.batch([dgl.graph(([0], [1])), dgl.graph(([0], [1]))])
        >>> readout_flat(g, torch.arange(4.0).view(4, 1)).tolist()
        [[0.0, 1.0], [2.0, 3.0]]
    """
    sizes = graph_sizes(graph)
    _check_features("readout_flat", x, int(sizes.sum()))
    if bool((sizes != sizes[0]).any()):
        raise ValueError(
            f"readout_flat: expected graphs of equal size, got {int(sizes.min())} to {int(sizes.max())} nodes"
        )
    return x.unflatten(0, (len(sizes), int(sizes[0]))).movedim(1, -2).flatten(-2)


def _check_features(owner: str, x: Tensor, num_nodes: int, width: int | None = None) -> None:
    wrong = features_error(owner, x, width=width)
    if wrong is not None:
        raise wrong
    check_num_rows(f"{owner}: x", x, num_nodes, "node")


def _to_graphs(owner: str, graph: GraphLike, x: Tensor, width: int | None = None) -> Adjacency:
    """From every node to its graph, if these are a graph and features, of this width."""
    adj = node_to_graph(graph, getattr(x, "device", torch.device("cpu")))
    _check_features(owner, x, adj.num_src, width)
    return adj


class _Readout(Arguments, nn.Module):
    """A readout that keeps the width."""

    renamed: ClassVar = dict.fromkeys(("feats", "channels", "in_channels", "hidden_channels", "input_dim"), "in_feats")

    def __init__(self, in_feats: int):
        super().__init__()
        self.in_feats = self.out_feats = integer(self, "in_feats", in_feats)

    def _to_graphs(self, graph: GraphLike, x: Tensor) -> Adjacency:
        return _to_graphs(type(self).__name__, graph, x, self.in_feats)


class _Reduction(_Readout):
    """A readout that a function computes."""

    function: ClassVar[Callable[..., Tensor]]

    def forward(self, graph: GraphLike, x: Tensor) -> Tensor:
        """Pool the nodes of each graph.

        Args:
            graph: a graph or a batch of B graphs
            x: node features, (N, \\*, in_feats)

        Returns:
            One vector for each graph, (B, \\*, out_feats).
        """
        return self.function(graph, x)


class SumReadout(_Reduction):
    """Sum over the nodes of each graph, as `readout_sum`.

    Args:
        in_feats: width of x; ``out_feats`` is the same

    Shapes:
        - x: (N, \\*, in_feats)
        - output: (B, \\*, in_feats)

    Example:
        >>> import torch
        >>> from gnnlib import GCNConv, Stack, SumReadout
        >>> import dgl
        >>> model = Stack.build(GCNConv, 3, 16, 2, num_layers=2, readout=SumReadout)
        >>> model(dgl.graph(([0, 1], [1, 0])), torch.ones(2, 3)).shape
        torch.Size([1, 2])
    """

    function = staticmethod(readout_sum)


class MeanReadout(_Reduction):
    """Mean over the nodes of each graph, as `readout_mean`.

    Args:
        in_feats: width of x; ``out_feats`` is the same

    Shapes:
        - x: (N, \\*, in_feats)
        - output: (B, \\*, in_feats)
    """

    function = staticmethod(readout_mean)


class MaxReadout(_Reduction):
    """Maximum over the nodes of each graph, as `readout_max`.

    Args:
        in_feats: width of x; ``out_feats`` is the same

    Shapes:
        - x: (N, \\*, in_feats)
        - output: (B, \\*, in_feats)
    """

    function = staticmethod(readout_max)


class MeanMaxReadout(_Reduction):
    """Mean and maximum over the nodes of each graph, as `readout_mean_max`.

    Args:
        in_feats: width of x; ``out_feats`` is 2 in_feats

    Shapes:
        - x: (N, \\*, in_feats)
        - output: (B, \\*, 2 in_feats)

    Example:
        >>> from gnnlib import MeanMaxReadout
        >>> MeanMaxReadout(16).out_feats
        32
    """

    function = staticmethod(readout_mean_max)

    def __init__(self, in_feats: int):
        super().__init__(in_feats)
        self.out_feats = 2 * self.in_feats


class FlatReadout(_Reduction):
    """Features of all nodes of each graph, concatenated, as `readout_flat`.

    Args:
        in_feats: width of x; ``out_feats`` is num_nodes in_feats
        num_nodes: number of nodes of every graph

    Shapes:
        - x: (N, \\*, in_feats)
        - output: (B, \\*, num_nodes in_feats)

    Raises:
        ValueError: if a graph has another number of nodes

    Example:
        >>> from functools import partial
        >>> from gnnlib import FlatReadout, GCNConv, Stack
        >>> model = Stack.build(GCNConv, 1, 4, 10, num_layers=2, readout=partial(FlatReadout, num_nodes=64))
        >>> model.head[1].in_features
        256
    """

    function = staticmethod(readout_flat)

    def __init__(self, in_feats: int, num_nodes: int):
        super().__init__(in_feats)
        self.num_nodes = integer(self, "num_nodes", num_nodes)
        self.out_feats = self.num_nodes * self.in_feats

    def forward(self, graph: GraphLike, x: Tensor) -> Tensor:
        """As `readout_flat`.

        Args:
            graph: a graph or a batch of B graphs
            x: node features, (N, \\*, in_feats)

        Returns:
            One vector for each graph, (B, \\*, out_feats).
        """
        y = super().forward(graph, x)
        if y.shape[-1] != self.num_nodes * x.shape[-1]:
            size = y.shape[-1] // x.shape[-1]
            raise ValueError(f"FlatReadout: expected graphs of {self.num_nodes} nodes, got {size}")
        return y


class AttentionReadout(_Readout):
    r"""Global attention pooling: an average over the nodes of each graph with learned weights (Li et al. 2016, arXiv
    1511.05493, equation 7).

    .. math:: y = \sum_v \operatorname{softmax}_v\big(\mathrm{gate}(x_v)\big)\, \mathrm{feat}(x_v)

    The softmax is over the nodes of a graph. A gate with out_feats outputs has a softmax for each feature. Differs from
    the paper: a softmax in place of the sigmoid, and no tanh, as in DGL's ``GlobalAttentionPooling`` and PyG's
    ``AttentionalAggregation``. State dicts of the former can be loaded.

    Args:
        in_feats: width of x
        out_feats: width of the output; None for in_feats
        gate_nn: any module from in_feats to 1 or out_feats; default a linear layer to 1
        feat_nn: any module from in_feats to out_feats; default none if they are equal, else a linear layer

    Shapes:
        - x: (N, \*, in_feats)
        - output: (B, \*, out_feats); 0 for a graph without nodes

    Raises:
        TypeError: if gate_nn or feat_nn is no module
        ValueError: if x, or the output of a module, has another width

    Example:
        >>> import torch
        >>> from gnnlib import AttentionReadout
        >>> import dgl
        >>> g = dgl.batch([dgl.graph(([0], [1])), dgl.graph(([], []), num_nodes=3)])
        >>> AttentionReadout(4)(g, torch.ones(5, 4)).shape
        torch.Size([2, 4])
        >>> AttentionReadout(4, 8, gate_nn=torch.nn.Linear(4, 8))(g, torch.ones(5, 4)).shape
        torch.Size([2, 8])
    """

    renamed: ClassVar = {**_Readout.renamed, "out_channels": "out_feats", "nn": "feat_nn"}

    def __init__(
        self,
        in_feats: int,
        out_feats: int | None = None,
        *,
        gate_nn: nn.Module | None = None,
        feat_nn: nn.Module | None = None,
    ):
        super().__init__(in_feats)
        self.out_feats = self.in_feats if out_feats is None else integer(self, "out_feats", out_feats)
        for name, module in (("gate_nn", gate_nn), ("feat_nn", feat_nn)):
            if not isinstance(module, nn.Module | None):
                raise TypeError(f"AttentionReadout: expected {name} to be a module, got {module!r}")
        self.gate_nn = Linear(self.in_feats, 1) if gate_nn is None else gate_nn
        if feat_nn is None and self.out_feats != self.in_feats:
            feat_nn = Linear(self.in_feats, self.out_feats)
        self.feat_nn = feat_nn

    def reset_parameters(self) -> None:
        """Draw all parameters anew."""
        reset_parameters(*self.children())

    def forward(self, graph: GraphLike, x: Tensor) -> Tensor:
        """Average the nodes of each graph.

        Args:
            graph: a graph or a batch of B graphs
            x: node features, (N, \\*, in_feats)

        Returns:
            One vector for each graph, (B, \\*, out_feats).
        """
        adj = self._to_graphs(graph, x)
        score, y = self.gate_nn(x), x if self.feat_nn is None else self.feat_nn(x)
        if score.shape[-1] not in (1, self.out_feats) or y.shape[-1] != self.out_feats:
            raise ValueError(
                f"AttentionReadout: expected outputs of width {self.out_feats}, or 1 of gate_nn, got "
                f"{score.shape[-1]} of gate_nn and {y.shape[-1]} of feat_nn"
            )
        return attention_sum(adj, score, y)[0]


def attention_sum(adj: Adjacency, score: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    """The averages over in-neighbours by a softmax of scores (N, \\*, 1 or F), and the weights, as the scores."""
    weight = edge_softmax(adj, score)
    return aggregate(adj, x, weight) if weight.shape[-1] == 1 else aggregate(adj, weight * x), weight


class Set2Set(_Readout):
    r"""Set2Set: an LSTM that attends to the nodes of each graph in every step (Vinyals et al. 2016, arXiv 1511.06391,
    equations 3 to 7).

    .. math::
        q_t &= \mathrm{LSTM}(q^*_{t-1}), \qquad \alpha_{v,t} = \operatorname{softmax}_v (x_v \cdot q_t) \\
        q^*_t &= q_t \,\Vert\, \sum_v \alpha_{v,t}\, x_v

    The output is the last :math:`q^*`. The softmax is over the nodes of a graph. Differs from the paper: nothing. The
    read and process blocks are the network before the readout and this module; there is no write block. State dicts of
    DGL's and PyG's ``Set2Set`` can be loaded.

    Args:
        in_feats: width of x; ``out_feats`` is 2 in_feats
        num_steps: number of steps
        num_layers: number of layers of the LSTM

    Shapes:
        - x: (N, \*, in_feats)
        - output: (B, \*, 2 in_feats); the second half is 0 for a graph without nodes

    Raises:
        ValueError: if x has another width

    Example:
        >>> import torch
        >>> from gnnlib import Set2Set
        >>> import dgl
        >>> g = dgl.batch([dgl.graph(([0], [1])), dgl.graph(([], []), num_nodes=3)])
        >>> Set2Set(4, num_steps=2)(g, torch.ones(5, 4)).shape
        torch.Size([2, 8])
    """

    renamed: ClassVar = {
        **_Readout.renamed,
        **dict.fromkeys(("n_iters", "processing_steps"), "num_steps"),
        "n_layers": "num_layers",
    }

    def __init__(self, in_feats: int, *, num_steps: int = 3, num_layers: int = 1):
        super().__init__(in_feats)
        self.out_feats = 2 * self.in_feats
        self.num_steps = integer(self, "num_steps", num_steps)
        self.num_layers = integer(self, "num_layers", num_layers)
        self.lstm = nn.LSTM(self.out_feats, self.in_feats, self.num_layers)

    def reset_parameters(self) -> None:
        """Draw the parameters of the LSTM anew."""
        reset_parameters(self.lstm)

    def forward(self, graph: GraphLike, x: Tensor) -> Tensor:
        """Attend to the nodes of each graph.

        Args:
            graph: a graph or a batch of B graphs
            x: node features, (N, \\*, in_feats)

        Returns:
            One vector for each graph, (B, \\*, 2 in_feats).
        """
        adj = self._to_graphs(graph, x)
        y = x.new_zeros(adj.num_dst, *x.shape[1:-1], self.out_feats)
        zero = y[..., : self.in_feats].flatten(0, -2)
        states = [(zero, zero)] * self.num_layers
        for _ in range(self.num_steps):
            states = _lstm_step(self.lstm, y.flatten(0, -2), states)
            query = states[-1][0].view(*y.shape[:-1], self.in_feats)
            score = edge_dot(adj, x, query).unsqueeze(-1)
            y = torch.cat([query, attention_sum(adj, score, x)[0]], -1)
        return y


States = list[tuple[Tensor, Tensor]]


def _lstm_step(lstm: nn.LSTM, x: Tensor, states: States) -> States:
    """The states (h, c) of all layers after an input; unlike cuDNN's LSTM, differentiable twice."""
    outputs: States = []
    for (h, c), (weight, recurrent, bias, recurrent_bias) in zip(states, lstm.all_weights):
        i, f, g, o = (linear(x, weight, bias) + linear(h, recurrent, recurrent_bias)).chunk(4, -1)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        x = o.sigmoid() * c.tanh()
        outputs.append((x, c))
    return outputs


class SortPool(_Readout):
    r"""SortPool: the features of the first k nodes of each graph, in descending order of their last feature (Zhang et
    al. 2018, DGCNN, AAAI, "The SortPooling layer").

    In DGCNN the layers before have their outputs concatenated (``jump="cat"``), and the last one has one feature. A
    graph of fewer nodes gets 0 in the missing places. Differs from the paper: nodes of the same last feature stay in
    their order; the paper compares the other features. DGL's ``SortPooling`` first sorts the features of each node;
    with ``x.sort(-1).values`` for x, this module returns the same.

    Args:
        in_feats: width of x; ``out_feats`` is k in_feats
        k: number of nodes; the default is that of the authors' code. The paper chooses k such that 60 % of the graphs
            have more nodes

    Shapes:
        - x: (N, \*, in_feats)
        - output: (B, \*, k in_feats), node after node

    Raises:
        ValueError: if x has another width

    Example:
        >>> import torch
        >>> from gnnlib import SortPool
        >>> import dgl
        >>> SortPool(2, k=2)(dgl.graph(([0, 1], [1, 2])), torch.tensor([[1.0, 5.0], [2.0, 4.0], [3.0, 6.0]])).tolist()
        [[3.0, 6.0, 1.0, 5.0]]
    """

    def __init__(self, in_feats: int, k: int = 30):
        super().__init__(in_feats)
        self.k = integer(self, "k", k)
        self.out_feats = self.k * self.in_feats

    def reset_parameters(self) -> None:
        """Do nothing: there are no parameters."""

    def forward(self, graph: GraphLike, x: Tensor) -> Tensor:
        """Sort the nodes of each graph.

        Args:
            graph: a graph or a batch of B graphs
            x: node features, (N, \\*, in_feats)

        Returns:
            One vector for each graph, (B, \\*, k in_feats).
        """
        adj = self._to_graphs(graph, x)
        order = x[..., -1].argsort(dim=0, descending=True, stable=True)
        order = order.take_along_dim(adj.dst[order].argsort(dim=0, stable=True), 0)  # graph after graph
        start, end = adj.csc.indptr[:-1, None], adj.csc.indptr[1:, None]
        place = start + torch.arange(self.k, device=x.device)
        place = place.where(place < end, len(x))  # of a row of zeros
        rows = torch.cat([x.take_along_dim(order.unsqueeze(-1), 0), x.new_zeros(1, *x.shape[1:])])
        return rows[place].movedim(1, -2).flatten(-2)
