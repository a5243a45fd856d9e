"""Deep graph infomax: an encoder that learns without labels to tell a graph's nodes from those of a corrupted one."""

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from gnnlib._platform.dgl import dgl
from gnnlib.graph import graph_sizes, node_to_graph
from gnnlib.nn._arguments import Arguments, integer, reset_parameters
from gnnlib.ops import aggregate, edge_dot

__all__ = ["DGI", "shuffle_rows"]


def shuffle_rows(graph: dgl.DGLGraph, x: Tensor) -> Tensor:
    """The features (N, \\*) in a random order, each graph of a batch by itself: the same nodes with wrong neighbours.

    >>> g = dgl.batch([dgl.graph(([0], [1])), dgl.graph(([0], [1]))])
    >>> shuffle_rows(g, torch.tensor([[1.0], [1.0], [2.0], [2.0]])).flatten().tolist()
    [1.0, 1.0, 2.0, 2.0]
    """
    sizes = graph_sizes(graph).to(x.device)
    owner = torch.repeat_interleave(torch.arange(len(sizes), device=x.device), sizes)
    order = torch.randperm(len(x), device=x.device)
    return x[order[owner[order].argsort(stable=True)]]


class DGI(Arguments, nn.Module):
    r"""Deep graph infomax (Velickovic et al. 2019, arXiv 1809.10341, equations 1 to 4): nodes h, of an encoder, that
    know of their whole graph s what those of a corrupted graph do not.

    .. math:: s = \sigma\Big(\frac{1}{N} \sum_v h_v\Big), \qquad D(h_v, s) = \sigma(h_v W s), \qquad
        L = -\frac{1}{2N} \sum_v \big(\log D(h_v, s) + \log(1 - D(\tilde h_v, s))\big)

    with h the encoder's output on the features, and h tilde on the same features in a random order.

    Args:
        encoder: called as ``encoder(graph, x, edge)``; in the paper one GCN layer 512 wide with a PReLU:
            ``Stack([GNNLayer(GCNConv(in_feats, 512), activation=nn.PReLU())])``
        feats: width of its output

    ``forward(graph, x, edge=None)`` gives the embeddings, ``loss(graph, x, edge=None)`` what is to be minimised. The
    loss draws at random: ``torch.manual_seed`` decides.

    Shapes: x (N, in_feats); the encoder returns (N, feats), as does ``forward``; the loss is a number.

    Raises: ValueError where the encoder's output has another shape.

    Differs from the paper: in a batch each graph has a summary of its own and is corrupted by itself, where the paper
    takes another graph's nodes.

    >>> from gnnlib import GNNLayer, GCNConv, Stack
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

    def forward(self, graph: dgl.DGLGraph, x: Tensor, edge: Tensor | None = None) -> Tensor:
        h = self.encoder(graph, x, edge)
        expected = (graph.num_dst_nodes(), len(self.weight))
        if tuple(h.shape) != expected:
            raise ValueError(f"DGI: expected an encoder that returns shape {expected}, got {tuple(h.shape)}")
        return h

    def discriminate(self, graph: dgl.DGLGraph, h: Tensor, summary: Tensor) -> Tensor:
        """h_v W s of each node and its graph's summary, before the sigmoid: (N, feats) and (B, feats) to (N,)."""
        return edge_dot(node_to_graph(graph, h.device), h, summary @ self.weight.T)

    def loss(self, graph: dgl.DGLGraph, x: Tensor, edge: Tensor | None = None) -> Tensor:
        real, corrupted = self(graph, x, edge), self(graph, shuffle_rows(graph, x), edge)
        summary = aggregate(node_to_graph(graph, real.device), real, reduce="mean").sigmoid()
        real, corrupted = (self.discriminate(graph, h, summary) for h in (real, corrupted))
        return (softplus(-real).mean() + softplus(corrupted).mean()) / 2
