"""Deep graph infomax (Velickovic et al. 2019, arXiv 1809.10341): an encoder trained without labels to separate the
nodes of a graph from those of a corrupted one."""

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from gnnlib.graph import GraphLike, graph_sizes, node_to_graph, takes_graph
from gnnlib.nn._arguments import Arguments, integer, reset_parameters
from gnnlib.ops import aggregate, edge_dot

__all__ = ["DGI", "shuffle_rows"]


@takes_graph()
def shuffle_rows(graph: GraphLike, x: Tensor) -> Tensor:
    """The features in a random order within each graph of a batch: the same nodes with wrong neighbours.

    Args:
        graph: a graph or a batch
        x: node features

    Shapes:
        - x: (N, \\*)
        - output: the same

    Returns:
        The shuffled features.

    Example:
        >>> import torch
        >>> from gnnlib.models.dgi import shuffle_rows
        >>> import dgl
        >>> g = dgl.batch([dgl.graph(([0], [1])), dgl.graph(([0], [1]))])
        >>> shuffle_rows(g, torch.tensor([[1.0], [1.0], [2.0], [2.0]])).flatten().tolist()
        [1.0, 1.0, 2.0, 2.0]
    """
    sizes = graph_sizes(graph).to(x.device)
    owner = torch.repeat_interleave(torch.arange(len(sizes), device=x.device), sizes)
    order = torch.randperm(len(x), device=x.device)
    return x[order[owner[order].argsort(stable=True)]]


class DGI(Arguments, nn.Module):
    r"""Deep graph infomax (Velickovic et al. 2019, arXiv 1809.10341, equations 1 to 4): maximises the mutual
    information between node embeddings h and the summary s of their graph.

    .. math:: s = \sigma\Big(\frac{1}{N} \sum_v h_v\Big), \qquad D(h_v, s) = \sigma(h_v W s), \qquad
        L = -\frac{1}{2N} \sum_v \big(\log D(h_v, s) + \log(1 - D(\tilde h_v, s))\big)

    with h the encoder's output on the features, and h tilde on the same features in a random order.

    ``forward(graph, x, edge=None)`` returns the embeddings, ``loss(graph, x, edge=None)`` the loss, which draws from
    torch's random numbers.

    Differs from the paper: in a batch each graph has its summary and is corrupted by permuting its nodes; the paper
    takes the nodes of another graph.

    Args:
        encoder: called as ``encoder(graph, x, edge)``; in the paper one GCN layer 512 wide with a PReLU:
            ``Stack([GNNLayer(GCNConv(in_feats, 512), activation=nn.PReLU())])``
        feats: width of its output

    Shapes:
        - x: (N, in_feats)
        - output: embeddings (N, feats), as of the encoder

    Raises:
        ValueError: if the encoder's output has another shape

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from gnnlib import GCNConv, GNNLayer, Stack
        >>> from gnnlib.models import DGI
        >>> import dgl
        >>> g = dgl.add_self_loop(dgl.rand_graph(20, 60))
        >>> model, x = DGI(Stack([GNNLayer(GCNConv(5, 8), activation=nn.PReLU())]), 8), torch.rand(20, 5)
        >>> model.loss(g, x).backward()
        >>> model(g, x).shape
        torch.Size([20, 8])
    """

    renamed: ClassVar = {"hidden_channels": "feats", "summary": "no summary (it is the sigmoid of the mean)"}

    def __init__(self, encoder: nn.Module, feats: int):
        super().__init__()
        self.encoder, self.feats = encoder, integer(self, "feats", feats)
        self.weight = nn.Parameter(torch.empty(feats, feats))
        nn.init.xavier_uniform_(self.weight)

    def reset_parameters(self) -> None:
        """Draw the parameters of the encoder and of the discriminator anew."""
        reset_parameters(self.encoder)
        nn.init.xavier_uniform_(self.weight)

    def forward(self, graph: GraphLike, x: Tensor, edge: Tensor | None = None) -> Tensor:
        """Encode the nodes.

        Args:
            graph: a graph or a batch
            x: node features, (N, in_feats)
            edge: edge weights or edge features, as the encoder takes them

        Returns:
            The embeddings, (N, feats).
        """
        h = self.encoder(graph, x, edge)
        expected = (graph.num_dst_nodes(), len(self.weight))
        if tuple(h.shape) != expected:
            raise ValueError(f"DGI: expected an encoder that returns shape {expected}, got {tuple(h.shape)}")
        return h

    @takes_graph("h")
    def discriminate(self, graph: GraphLike, h: Tensor, summary: Tensor) -> Tensor:
        """Scores h_v W s of the nodes and the summaries of their graphs, before the sigmoid.

        Args:
            graph: a graph or a batch of B graphs
            h: embeddings, (N, feats)
            summary: of each graph, (B, feats)

        Returns:
            The scores, (N,).
        """
        return edge_dot(node_to_graph(graph, h.device), h, summary @ self.weight.T)

    @takes_graph()
    def loss(self, graph: GraphLike, x: Tensor, edge: Tensor | None = None) -> Tensor:
        """Cross-entropy of the discriminator on the graph and on the corrupted graph.

        Args:
            graph: a graph or a batch
            x: node features, (N, in_feats)
            edge: edge weights or edge features, as the encoder takes them

        Returns:
            The loss.
        """
        real, corrupted = self(graph, x, edge), self(graph, shuffle_rows(graph, x), edge)
        summary = aggregate(node_to_graph(graph, real.device), real, reduce="mean").sigmoid()
        real, corrupted = (self.discriminate(graph, h, summary) for h in (real, corrupted))
        return (softplus(-real).mean() + softplus(corrupted).mean()) / 2
