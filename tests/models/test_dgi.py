"""Deep graph infomax: its loss and discriminator written out, what it corrupts, and that it finds communities."""

import pytest
import torch
from torch import nn

from gnnlib import GCNConv, GNNLayer, Stack
from gnnlib._platform.dgl import dgl
from gnnlib.models.dgi import DGI, shuffle_rows
from gnnlib.testing.graphs import path, random_graph, symmetric_graph


def build(in_feats=5, feats=4):
    torch.manual_seed(0)
    return DGI(Stack([GNNLayer(GCNConv(in_feats, feats), activation=nn.PReLU())]), feats).double()


def features(graph, width=5):
    return torch.rand(graph.num_nodes(), width, dtype=torch.float64)


def test_the_discriminator_is_the_bilinear_form():
    """D(h, s) = sigma(h W s), as torch's bilinear layer has it."""
    graph, model = random_graph(), build()
    h, summary = features(graph, 4), torch.rand(1, 4, dtype=torch.float64)
    expected = nn.functional.bilinear(h, summary.expand(len(h), -1).contiguous(), model.weight.unsqueeze(0)).flatten()
    torch.testing.assert_close(model.discriminate(graph, h, summary), expected)


def test_the_loss_is_equation_1_with_dense_matrices():
    graph, model = symmetric_graph(), build()
    x = features(graph)
    src, dst = graph.edges()
    norm = torch.zeros(11, 11, dtype=torch.float64).index_put((dst, src), torch.ones(1).double(), accumulate=True)
    norm *= (norm.sum(1, keepdim=True) * norm.sum(0)) ** -0.5
    (block,) = model.encoder.blocks

    def encode(x):
        return block.activation(norm @ x @ block.conv.weight + block.conv.bias)

    torch.manual_seed(1)
    actual = model.loss(graph, x)
    torch.manual_seed(1)
    real, corrupted = encode(x), encode(shuffle_rows(graph, x))
    summary = real.mean(0).sigmoid()
    score = torch.cat([real @ model.weight @ summary, corrupted @ model.weight @ summary])
    label = torch.tensor([1.0, 0.0], dtype=torch.float64).repeat_interleave(11)
    expected = nn.functional.binary_cross_entropy(score.sigmoid(), label)
    torch.testing.assert_close(actual, expected)


def test_a_batch_has_a_summary_and_a_corruption_for_each_graph():
    parts = [random_graph(7, 12), path(1), path(4), symmetric_graph(9)]
    graph, model = dgl.batch(parts), build()
    xs = [features(part) for part in parts]
    shuffled = shuffle_rows(graph, torch.cat(xs)).split([part.num_nodes() for part in parts])
    for before, after in zip(xs, shuffled):
        assert sorted(before.tolist()) == sorted(after.tolist())
    assert any(not torch.equal(before, after) for before, after in zip(xs, shuffled))
    h, summary = features(graph, 4), torch.rand(4, 4, dtype=torch.float64)
    alone = [
        model.discriminate(part, h_graph, one.unsqueeze(0))
        for part, h_graph, one in zip(parts, h.split([part.num_nodes() for part in parts]), summary)
    ]
    torch.testing.assert_close(model.discriminate(graph, h, summary), torch.cat(alone))


def test_every_order_of_rows_is_as_likely():
    graph, x = path(3), torch.arange(3.0).unsqueeze(1)
    torch.manual_seed(0)
    orders = [tuple(shuffle_rows(graph, x).flatten().tolist()) for _ in range(1200)]
    counts = {order: orders.count(order) for order in set(orders)}
    assert len(counts) == 6
    assert all(140 < count < 260 for count in counts.values()), "200 each, within 4.5 deviations"


@pytest.mark.slow
def test_gradients():
    """Each node has neighbours: an isolated one is where the PReLU has its kink."""
    graph, model = symmetric_graph(6), build()
    leaves = [features(graph).requires_grad_(), *model.parameters()]

    def loss(*_):
        torch.manual_seed(2)
        return model.loss(graph, leaves[0])

    assert torch.autograd.gradcheck(loss, leaves)
    assert torch.autograd.gradgradcheck(loss, leaves, fast_mode=True)


def test_a_zero_discriminator_has_loss_log_two():
    graph, model = random_graph(), build()
    nn.init.zeros_(model.weight)
    assert model.loss(graph, features(graph)).item() == pytest.approx(torch.log(torch.tensor(2.0)).item())


def test_it_finds_communities_without_labels():
    """Of two communities with features that barely tell, the embeddings' nearest centres do."""
    generator = torch.Generator().manual_seed(0)
    label = torch.arange(120) % 2
    chance = torch.where(label[:, None] == label, 0.15, 0.01)
    link = (torch.rand(120, 120, generator=generator) < chance).triu(1)
    src, dst = (link | link.T).nonzero(as_tuple=True)
    graph = dgl.add_self_loop(dgl.graph((src, dst), num_nodes=120))
    x = torch.randn(120, 16, generator=generator)
    x[:, 0] += 1.5 * label
    torch.manual_seed(0)
    model = DGI(Stack([GNNLayer(GCNConv(16, 32), activation=nn.PReLU())]), 32)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)

    def told_apart(h):
        centres = torch.stack([h[label == c][:5].mean(0) for c in (0, 1)])  # of five labels a class
        return (torch.cdist(h, centres).argmin(1) == label).float().mean().item()

    losses = []
    for _ in range(60):
        optimizer.zero_grad()
        loss = model.loss(graph, x)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]
    assert told_apart(model(graph, x).detach()) > max(0.9, told_apart(x))


def test_an_encoder_of_another_width_is_refused():
    model = DGI(GCNConv(5, 4), 3)
    with pytest.raises(ValueError, match=r"expected an encoder that returns shape \(11, 3\), got \(11, 4\)"):
        model.loss(random_graph(), torch.rand(11, 5))
