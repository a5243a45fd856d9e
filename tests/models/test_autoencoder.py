"""Graph autoencoders: the loss as dense cross-entropy and as PyG has it, in blocks and from a sample of pairs."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.distributions import Normal, kl_divergence
from torch.nn.functional import binary_cross_entropy_with_logits

from gnnlib import GCNConv, Stack
from gnnlib._platform.dgl import dgl
from gnnlib.models import autoencoder
from gnnlib.models.autoencoder import GAE, VGAE, link_scores, reconstruction_loss
from gnnlib.testing.graphs import clique, path, random_graph


def undirected(n=12, seed=0):
    link = (torch.rand(n, n, generator=torch.Generator().manual_seed(seed)) < 0.2).triu(1)
    src, dst = (link | link.T).nonzero(as_tuple=True)
    return dgl.add_self_loop(dgl.graph((src, dst), num_nodes=n))


def embeddings(n=12, width=3):
    return torch.randn(n, width, dtype=torch.float64, requires_grad=True)


def dense(graph, z):
    """norm * weighted cross-entropy over the matrix of pairs, as the authors' code writes it."""
    n = graph.num_nodes()
    adjacency = torch.zeros(n, n, dtype=z.dtype)
    adjacency[graph.edges()] = 1.0
    ones = adjacency.sum()
    weight, norm = (n * n - ones) / ones, n * n / (2 * (n * n - ones))
    return norm * binary_cross_entropy_with_logits(z @ z.T, adjacency, pos_weight=weight)


def gradient(loss, z):
    return torch.autograd.grad(loss, z)[0]


@pytest.mark.parametrize("held", [2**24, 30, 1])
def test_the_loss_is_the_dense_formula_in_blocks_of_any_size(monkeypatch, held):
    monkeypatch.setattr(autoencoder, "HELD", held)
    graph, z = undirected(), embeddings()
    actual, expected = reconstruction_loss(graph, z), dense(graph, z)
    torch.testing.assert_close(actual, expected)
    torch.testing.assert_close(gradient(actual, z), gradient(expected, z))


@settings(max_examples=25)
@given(st.integers(2, 9), st.integers(0, 99))
def test_the_loss_of_any_graph(n, seed):
    link = (torch.rand(n, n, generator=torch.Generator().manual_seed(seed)) < 0.4).fill_diagonal_(False)
    link[0, 1] = True
    graph = dgl.graph(link.nonzero(as_tuple=True), num_nodes=n)
    z = 3 * torch.randn(n, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    torch.testing.assert_close(reconstruction_loss(graph, z), dense(graph, z))


def test_gradients_of_both_kinds():
    graph, z = undirected(6), embeddings(6)

    def sampled(z):
        torch.manual_seed(0)
        return reconstruction_loss(graph, z, num_pairs=20)

    for loss in (lambda z: reconstruction_loss(graph, z), sampled):
        assert torch.autograd.gradcheck(loss, z)
        assert torch.autograd.gradgradcheck(loss, z, fast_mode=True)


def test_blocks_are_not_held(monkeypatch):
    """Not one tensor that autograd keeps is as large as a block."""
    monkeypatch.setattr(autoencoder, "HELD", 3 * 60)
    graph, z, sizes = undirected(60), embeddings(60), []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: sizes.append(t.numel()) or t, lambda t: t):
        reconstruction_loss(graph, z)
    assert max(sizes) < 60 * 60 / 2
    assert max(sizes) <= max(z.numel(), graph.num_edges())


def test_a_sample_of_pairs_is_without_bias():
    graph, z = undirected(), embeddings()
    full = reconstruction_loss(graph, z)
    torch.manual_seed(0)
    actual = [reconstruction_loss(graph, z, num_pairs=200) for _ in range(150)]
    values = torch.stack(actual)
    assert (values.mean() - full).abs() < 4 * values.std() / math.sqrt(150)
    assert values.std() > 0
    slopes = torch.stack([gradient(loss, z) for loss in actual])
    error = (slopes.mean(0) - gradient(full, z)) / (slopes.std(0) / math.sqrt(150) + 1e-9)
    assert error.abs().max() < 5


def test_a_loss_of_unmistakable_embeddings():
    """Two cliques at opposite ends: nothing to lose; at the origin, log 2; mixed up, much."""
    graph = dgl.add_self_loop(dgl.batch([clique(4), clique(3)]))
    side = torch.tensor([1.0] * 4 + [-1.0] * 3).unsqueeze(1)
    assert reconstruction_loss(graph, 6 * side).item() < 1e-9
    assert reconstruction_loss(graph, 0 * side).item() == pytest.approx(math.log(2))
    assert reconstruction_loss(graph, 6 * side[[0, 4, 1, 5, 2, 6, 3]]).item() > 5


def test_link_scores_are_inner_products():
    z, u, v = embeddings(), torch.tensor([0, 5, 5, 11]), torch.tensor([3, 5, 2, 0])
    torch.testing.assert_close(link_scores(z, u, v), (z @ z.T)[u, v])
    torch.testing.assert_close(link_scores(z, u, v), link_scores(z, v, u))
    assert link_scores(z, u[:0], v[:0]).shape == (0,)


# the models


def encoder(width, in_feats=5):
    torch.manual_seed(0)
    return Stack.build(GCNConv, in_feats, 8, width, num_layers=2)


def test_gae_is_encoder_and_loss():
    graph, x = undirected(), torch.rand(12, 5)
    model = GAE(encoder(4))
    z = model(graph, x)
    torch.testing.assert_close(z, model.encoder(graph, x))
    torch.testing.assert_close(model.loss(graph, x), dense(graph, z))
    torch.manual_seed(3)
    expected = reconstruction_loss(graph, z, 50)
    torch.manual_seed(3)
    torch.testing.assert_close(GAE(model.encoder, num_pairs=50).loss(graph, x), expected)


def test_vgae_draws_and_adds_the_divergence():
    """torch's divergence of two normal distributions, summed, over N^2; z drawn by torch's normal distribution."""
    graph, x = undirected(), torch.rand(12, 5)
    model = VGAE(encoder(8))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(3)
    mean, log_std = model.encoder(graph, x).chunk(2, -1)
    assert torch.equal(model(graph, x), mean)
    normal = Normal(mean, log_std.exp())
    torch.manual_seed(3)
    actual = model.loss(graph, x)
    torch.manual_seed(3)
    expected = dense(graph, normal.rsample()) + kl_divergence(normal, Normal(0.0, 1.0)).sum() / 12**2
    torch.testing.assert_close(actual, expected)
    leaves = list(model.parameters())
    for a, b in zip(torch.autograd.grad(actual, leaves), torch.autograd.grad(expected, leaves)):
        torch.testing.assert_close(a, b)


def test_vgaes_divergence_is_pygs():
    pyg = pytest.importorskip("torch_geometric.nn")
    graph, x = undirected(), torch.rand(12, 5)
    model = VGAE(encoder(8))
    torch.manual_seed(3)
    actual = model.loss(graph, x)
    torch.manual_seed(3)
    mean, log_std = model.normal(graph, x)
    z = mean + log_std.exp() * torch.randn_like(mean)
    other = pyg.VGAE(None).kl_loss(mean, log_std) / 12  # a mean over nodes there
    torch.testing.assert_close(actual - reconstruction_loss(graph, z), other, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("kind", [GAE, VGAE])
def test_links_are_found(kind):
    """Two communities with no features but the nodes' own numbers: a link held out scores above a pair that is none."""
    torch.manual_seed(0)
    side = torch.arange(40) % 2
    link = ((side[:, None] == side) & (torch.rand(40, 40) < 0.5)).triu(1)
    held = link & (torch.rand(40, 40) < 0.1)
    src, dst = (link & ~held).nonzero(as_tuple=True)
    graph = dgl.add_self_loop(dgl.graph((torch.cat([src, dst]), torch.cat([dst, src])), num_nodes=40))
    model, x = kind(encoder(16, 40)), torch.eye(40)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    for _ in range(100):
        optimizer.zero_grad()
        model.loss(graph, x).backward()
        optimizer.step()
    z = model(graph, x)
    inside = link_scores(z, *held.nonzero(as_tuple=True))
    across = link_scores(z, *(side[:, None] < side).nonzero(as_tuple=True))
    assert (inside[:, None] > across).float().mean() > 0.95


def test_invalid_arguments():
    graph, z = undirected(), embeddings()
    with pytest.raises(ValueError, match=r"expected shape \(12, F\), got \(11, 3\)"):
        reconstruction_loss(graph, z[:11])
    with pytest.raises(ValueError, match="expected some edges, and fewer than all 16 pairs, got 0"):
        reconstruction_loss(dgl.graph(([], []), num_nodes=4), z[:4])
    with pytest.raises(ValueError, match="expected some edges, and fewer than all 9 pairs, got 9"):
        reconstruction_loss(dgl.add_self_loop(clique(3)), z[:3])
    with pytest.raises(ValueError, match="num_pairs: expected 1 or more, got 0"):
        reconstruction_loss(graph, z, num_pairs=0)
    with pytest.raises(ValueError, match="even width, mu and log sigma, got 3"):
        VGAE(encoder(3)).loss(path(5), torch.rand(5, 5))
    with pytest.raises(ValueError, match=r"x of shape \(11, \.\.\., 5\), got \(11, 4\)"):
        GAE(encoder(4)).loss(random_graph(), torch.rand(11, 4))
