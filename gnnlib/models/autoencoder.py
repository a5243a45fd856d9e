"""Graph autoencoders (Kipf and Welling 2016, arXiv 1611.07308): encoders trained without labels to predict links."""

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus
from torch.utils.checkpoint import checkpoint as recompute

from gnnlib._utils.calls import names_checked
from gnnlib.graph import GraphLike, new_graph, takes_graph
from gnnlib.nn._arguments import Arguments, integer, reset_parameters
from gnnlib.ops import edge_dot

__all__ = ["GAE", "VGAE", "link_scores", "reconstruction_loss"]

HELD = 2**24  # pairs stored at a time: 64 MB in single precision


@names_checked()
def link_scores(z: Tensor, u: Tensor, v: Tensor) -> Tensor:
    """Scores of links between nodes u and v: the inner products <z_u, z_v> of their embeddings.

    Args:
        z: embeddings
        u: node numbers
        v: node numbers

    Shapes:
        - z: (N, F)
        - u, v: (M,)
        - output: (M,)

    Returns:
        The scores; their sigmoid is the probability of the link.

    Example:
        >>> import torch
        >>> from gnnlib.models import link_scores
        >>> z = torch.tensor([[1.0, 0.0], [2.0, 3.0], [0.0, 5.0]])
        >>> link_scores(z, torch.tensor([0, 1]), torch.tensor([1, 2])).tolist()
        [2.0, 15.0]
    """
    return edge_dot(new_graph(u, v, len(z)), z, z)


@names_checked()
@takes_graph("z")
def reconstruction_loss(graph: GraphLike, z: Tensor, num_pairs: int | None = None) -> Tensor:
    r"""Reconstruction loss of the adjacency by inner products of embeddings (Kipf and Welling 2016, arXiv 1611.07308,
    equations 2 and 4): cross-entropy in which the edges, E of N^2 pairs, weigh as much as the other pairs.

    .. math:: L = -\frac{1}{2E} \sum_{uv \in E} \log \sigma(z_u \cdot z_v)
        - \frac{1}{2(N^2 - E)} \sum_{uv \notin E} \log(1 - \sigma(z_u \cdot z_v))

    The matrix of pairs is not stored: it is computed in blocks of rows, and again in the backward pass.

    Args:
        graph: whose edges are to be predicted; without parallel edges and, as inner products are, symmetric; with
            self-loops where a node is its own neighbour, as in the authors' code
        z: embeddings
        num_pairs: number of random pairs for an estimate without bias, where N^2 is too much; None: all pairs

    Shapes:
        - z: (N, F)
        - output: a number

    Returns:
        The loss.

    Raises:
        ValueError: if z has a wrong number of rows
        ValueError: if all pairs are edges, or none is
        ValueError: if ``num_pairs`` is below 1

    Example:
        >>> import torch
        >>> from gnnlib.models import reconstruction_loss
        >>> import dgl
        >>> g = dgl.graph(([0, 1], [1, 0]))
        >>> reconstruction_loss(g, torch.zeros(2, 4)).item()  # log 2
        0.6931471824645996
    """
    num_nodes, num_edges = graph.num_nodes(), graph.num_edges()
    num_others = num_nodes**2 - num_edges
    if z.dim() != 2 or len(z) != num_nodes:
        raise ValueError(f"z: expected shape ({num_nodes}, F), got {tuple(z.shape)}")
    if num_edges == 0 or num_others <= 0:
        raise ValueError(f"expected some edges, and fewer than all {num_nodes**2} pairs, got {num_edges}")
    if num_pairs is not None and num_pairs < 1:
        raise ValueError(f"num_pairs: expected 1 or more, got {num_pairs}")
    if num_pairs is None:
        blocks = z.split(max(1, HELD // num_nodes))
        total = torch.stack([recompute(_no_link, rows, z, use_reentrant=False) for rows in blocks]).sum()
    else:
        u, v = torch.randint(num_nodes, (2, num_pairs), device=z.device)
        total = softplus(link_scores(z, u, v)).mean() * num_nodes**2
    edges = edge_dot(graph, z, z)
    return softplus(-edges).mean() / 2 + (total - softplus(edges).sum()) / (2 * num_others)


def _no_link(rows: Tensor, z: Tensor) -> Tensor:
    """The sum of -log(1 - sigma(<row, z_v>)) over all pairs of a row and a node."""
    return softplus(rows @ z.T).sum()


class GAE(Arguments, nn.Module):
    """Graph autoencoder (Kipf and Welling 2016, arXiv 1611.07308, equation 4): Z = encoder(A, X), A = sigma(Z Z^T).

    ``forward(graph, x, edge=None)`` gives the embeddings, for `link_scores`; ``loss(graph, x, edge=None)`` is what to
    minimise: `reconstruction_loss` of the same graph. Links to be found later must not be among its edges.

    Differs from the authors' code: a self-loop counts as an edge, there in the cross-entropy, here in its weights too.

    Args:
        encoder: called as ``encoder(graph, x, edge)``; in the paper two GCN layers:
            ``Stack.build(GCNConv, in_feats, 32, 16, num_layers=2)``
        num_pairs: as for `reconstruction_loss`; None: the loss is over all pairs

    Shapes:
        - x: (N, in_feats)
        - output: embeddings (N, F), as of the encoder

    Example:
        >>> import torch
        >>> from gnnlib import GCNConv, Stack
        >>> from gnnlib.models import GAE, link_scores
        >>> import dgl
        >>> g = dgl.add_self_loop(dgl.graph(([0, 1, 1, 2], [1, 0, 2, 1])))
        >>> model, x = GAE(Stack.build(GCNConv, 5, 32, 16, num_layers=2)), torch.rand(3, 5)
        >>> model.loss(g, x).backward()
        >>> link_scores(model(g, x), torch.tensor([0]), torch.tensor([2])).shape
        torch.Size([1])
    """

    renamed: ClassVar = {"decoder": "no decoder (links are scored by inner products)"}

    def __init__(self, encoder: nn.Module, *, num_pairs: int | None = None):
        super().__init__()
        self.encoder = encoder
        self.num_pairs = num_pairs if num_pairs is None else integer(self, "num_pairs", num_pairs)

    def reset_parameters(self) -> None:
        """Draw the parameters of the encoder anew."""
        reset_parameters(self.encoder)

    def forward(self, graph: GraphLike, x: Tensor, edge: Tensor | None = None) -> Tensor:
        """Encode the nodes.

        Args:
            graph: a graph or a batch
            x: node features, (N, in_feats)
            edge: edge weights or edge features, as the encoder takes them

        Returns:
            The embeddings, (N, F).
        """
        return self.encoder(graph, x, edge)

    @takes_graph()
    def loss(self, graph: GraphLike, x: Tensor, edge: Tensor | None = None) -> Tensor:
        """`reconstruction_loss` of the graph.

        Args:
            graph: a graph or a batch, whose edges are to be predicted
            x: node features, (N, in_feats)
            edge: edge weights or edge features, as the encoder takes them

        Returns:
            The loss.
        """
        return reconstruction_loss(graph, self(graph, x, edge), self.num_pairs)


class VGAE(GAE):
    r"""Variational graph autoencoder (Kipf and Welling 2016, arXiv 1611.07308, equations 1 to 3): an embedding is a
    normal distribution, sampled in training, with a divergence from the standard normal distribution in the loss.

    .. math:: [\mu, \log\sigma] = \mathrm{encoder}(A, X), \qquad z = \mu + \sigma \epsilon, \qquad
        L = L_{reconstruction} + \frac{1}{N^2} \sum_{v,i} \frac{\mu_{vi}^2 + \sigma_{vi}^2 - 1}{2} - \log\sigma_{vi}

    Differs from the paper: none of its formula; the two last layers, of mu and of log sigma, are one twice as wide.

    Args:
        encoder: called as ``encoder(graph, x, edge)``; gives mu and log sigma, concatenated:
            ``Stack.build(GCNConv, in_feats, 32, 2 * 16, num_layers=2)``
        num_pairs: as for `reconstruction_loss`; None: the loss is over all pairs

    Shapes:
        - x: (N, in_feats)
        - output: mu (N, F), half of the encoder's output (N, 2 F)

    Raises:
        ValueError: if the encoder's width is odd

    Example:
        >>> import torch
        >>> from gnnlib import GCNConv, Stack
        >>> from gnnlib.models import VGAE
        >>> import dgl
        >>> g = dgl.add_self_loop(dgl.graph(([0, 1, 1, 2], [1, 0, 2, 1])))
        >>> model, x = VGAE(Stack.build(GCNConv, 5, 32, 2 * 16, num_layers=2)), torch.rand(3, 5)
        >>> model.loss(g, x).backward()
        >>> model(g, x).shape
        torch.Size([3, 16])
    """

    @takes_graph()
    def normal(self, graph: GraphLike, x: Tensor, edge: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Mean and log standard deviation of the embeddings.

        Args:
            graph: a graph or a batch
            x: node features, (N, in_feats)
            edge: edge weights or edge features, as the encoder takes them

        Returns:
            mu and log sigma, (N, F) each.
        """
        y = self.encoder(graph, x, edge)
        if y.shape[-1] % 2:
            raise ValueError(f"VGAE: expected an encoder of even width, mu and log sigma, got {y.shape[-1]}")
        mean, log_std = y.chunk(2, -1)
        return mean, log_std

    def forward(self, graph: GraphLike, x: Tensor, edge: Tensor | None = None) -> Tensor:
        """Encode the nodes.

        Args:
            graph: a graph or a batch
            x: node features, (N, in_feats)
            edge: edge weights or edge features, as the encoder takes them

        Returns:
            The mean of the embeddings, (N, F).
        """
        return self.normal(graph, x, edge)[0]

    @takes_graph()
    def loss(self, graph: GraphLike, x: Tensor, edge: Tensor | None = None) -> Tensor:
        """`reconstruction_loss` of the graph, and the divergence from the standard normal distribution.

        Args:
            graph: a graph or a batch, whose edges are to be predicted
            x: node features, (N, in_feats)
            edge: edge weights or edge features, as the encoder takes them

        Returns:
            The loss.
        """
        mean, log_std = self.normal(graph, x, edge)
        std = log_std.exp()
        divergence = ((mean.square() + std.square() - 1) / 2 - log_std).sum() / len(mean) ** 2
        return reconstruction_loss(graph, mean + std * torch.randn_like(std), self.num_pairs) + divergence
