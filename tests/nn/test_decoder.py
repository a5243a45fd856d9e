"""Decoders of links: against dense matrices of scores, and the symmetries of their formulas."""

import pytest
import torch

from gnnlib import Bilinear, ComplEx, DistMult, DotProduct, HadamardMLP, load_model, save_model

N, F, R = 7, 6, 3
DECODERS = {
    "dot": lambda: DotProduct(),
    "hadamard": lambda: HadamardMLP(F, hidden=5, num_layers=2),
    "bilinear": lambda: Bilinear(F),
    "distmult": lambda: DistMult(F, R),
    "complex": lambda: ComplEx(F, R),
}
SYMMETRIC = ("dot", "hadamard", "distmult")


def make(name):
    torch.manual_seed(0)
    decoder = DECODERS[name]().double()
    return decoder, torch.randn(N, F, dtype=torch.float64)


def dense(name, decoder, z):
    """The scores of all pairs, and of all relations, (R, N, N), from matrices."""
    if name == "dot":
        return (z @ z.T)[None]
    if name == "bilinear":
        return (z @ decoder.linear.weight.T @ z.T)[None]
    if name == "hadamard":
        first, second = decoder.layers
        product = torch.einsum("ui,vi->uvi", z, z)
        return (torch.relu(product @ first.weight.T + first.bias) @ second.weight.T + second.bias).squeeze(-1)[None]
    if name == "distmult":
        return torch.stack([z @ torch.diag(r) @ z.T for r in decoder.relation])
    half = F // 2
    entries = torch.complex(z[:, :half], z[:, half:])
    diagonals = torch.complex(decoder.relation[:, :half], decoder.relation[:, half:])
    return torch.stack([(entries @ torch.diag(r) @ entries.conj().T).real for r in diagonals])


def relations(name, relation):
    return (relation,) if name in ("distmult", "complex") else ()


@pytest.mark.parametrize("name", DECODERS)
def test_the_matrix_of_scores(name):
    decoder, z = make(name)
    expected = dense(name, decoder, z)
    for r, matrix in enumerate(expected):
        pairs = decoder(z[:, None], z[None], *relations(name, torch.tensor(r)))
        torch.testing.assert_close(pairs, matrix)
    u, v, r = torch.randint(N, (20,)), torch.randint(N, (20,)), torch.randint(len(expected), (20,))
    torch.testing.assert_close(decoder(z[u], z[v], *relations(name, r)), expected[r, u, v])
    assert (name in SYMMETRIC) == torch.allclose(expected, expected.transpose(1, 2))


@pytest.mark.parametrize("name", DECODERS)
def test_candidates_at_either_end(name):
    """A head with many tails, or a tail with many heads, scores as the single pairs do."""
    decoder, z = make(name)
    u, many, r = torch.arange(4), torch.randint(N, (4, 9)), torch.randint(R, (4,))
    one = u[:, None].expand(4, 9)
    options = relations(name, r[:, None].expand(4, 9))
    for broadcast, single in (
        ((z[u][:, None], z[many]), (z[one], z[many])),
        ((z[many], z[u][:, None]), (z[many], z[one])),
    ):
        torch.testing.assert_close(decoder(*broadcast, *relations(name, r[:, None])), decoder(*single, *options))


@pytest.mark.parametrize("name", DECODERS)
def test_gradients(name):
    decoder, z = make(name)
    r = relations(name, torch.tensor([0, 2, 1]))
    ends = [z[:3].clone().requires_grad_(), z[3:6].clone().requires_grad_()]
    parameters = tuple(p for p in decoder.parameters())
    assert torch.autograd.gradcheck(lambda *inputs: decoder(inputs[0], inputs[1], *r), (*ends, *parameters))


@pytest.mark.parametrize("name", DECODERS)
def test_saved_and_reset(name, tmp_path):
    decoder, z = make(name)
    save_model(decoder, tmp_path)
    loaded, r = load_model(tmp_path), relations(name, torch.arange(N) % R)
    assert torch.equal(loaded(z, z.flip(0), *r), decoder(z, z.flip(0), *r))
    before = [p.clone() for p in decoder.parameters()]
    decoder.reset_parameters()
    assert not any(torch.equal(a, b) for a, b in zip(before, decoder.parameters()) if a.dim() > 1)


def test_features_of_pairs():
    """They are further inputs of the first layer: a decoder with weight 0 for them ignores them."""
    torch.manual_seed(0)
    decoder, plain, z, pair = HadamardMLP(F, pair_feats=2), HadamardMLP(F), torch.rand(5, F), torch.rand(5, 2)
    state = decoder.state_dict() | {"layers.0.weight": decoder.layers[0].weight[:, :F]}
    plain.load_state_dict(state)
    assert not torch.allclose(decoder(z, z, pair), decoder(z, z, pair + 1))
    with torch.no_grad():
        decoder.layers[0].weight[:, F:] = 0
    torch.testing.assert_close(decoder(z, z, pair), plain(z, z))


def test_complex_without_imaginary_parts_is_distmult():
    real, full = DistMult(3, R), ComplEx(6, R)
    with torch.no_grad():
        full.relation.zero_()[:, :3] = real.relation
    x, y, r = torch.randn(5, 3), torch.randn(5, 3), torch.arange(5) % R
    ends = (torch.cat([z, torch.zeros(5, 3)], 1) for z in (x, y))
    torch.testing.assert_close(full(*ends, r), real(x, y, r))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: ComplEx(5, 2), ValueError, "ComplEx: expected an even feats, real and imaginary parts, got 5"),
        (lambda: DistMult(4, 0), ValueError, "DistMult: expected num_relations >= 1, got 0"),
        (lambda: HadamardMLP(4, num_layers=0), ValueError, "HadamardMLP: expected num_layers >= 1, got 0"),
        (lambda: HadamardMLP(4, dropout=2), ValueError, "expected a probability dropout from 0 to 1, got 2"),
        (
            lambda: Bilinear(4)(torch.rand(2, 3), torch.rand(2, 4)),
            ValueError,
            r"Bilinear: expected embeddings of width 4, got \(2, 3\) and \(2, 4\)",
        ),
        (
            lambda: DotProduct()(torch.rand(2, 3), torch.rand(2, 4)),
            ValueError,
            r"DotProduct: expected embeddings of width 3, got \(2, 3\) and \(2, 4\)",
        ),
        (
            lambda: HadamardMLP(4, pair_feats=2)(torch.rand(2, 4), torch.rand(2, 4)),
            ValueError,
            "HadamardMLP: expected 2 features of a pair, got 0",
        ),
        (
            lambda: DistMult(4, 2)(torch.rand(2, 4), torch.rand(2, 4), torch.tensor([0, 2])),
            IndexError,
            "DistMult: expected relations from 0 to 1, got 0 to 2",
        ),
    ],
)
def test_invalid_arguments(call, error, message):
    with pytest.raises(error, match=message):
        call()
