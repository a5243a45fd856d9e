"""PNAConv: every message written out, dgl.nn's tower and PyG's layer."""

import math

import pytest
import torch

from gnnlib import PNAConv
from gnnlib._platform.dgl import dgl
from gnnlib.testing.case import Case
from gnnlib.testing.checks import counted_kernels, on_every_graph, properties
from gnnlib.testing.graphs import GRAPHS, clique, path, random_graph

EVERY = (("mean", "max", "min", "std"), ("identity", "amplification", "attenuation"))


def spread(m):
    """The standard deviation from all pairs, which are exactly 0 where messages are equal."""
    apart = (m.unsqueeze(0) - m.unsqueeze(1)).square().mean((0, 1)) / 2
    some = apart > 1e-24
    return apart.where(some, 1).sqrt().where(some, 0)


def root_of_moment(n):
    """Of the mean of the n-th powers of the differences to the mean; 0 where all messages are equal."""

    def moment(m):
        mean = ((m - m.mean(0)) ** n).mean(0)
        some = mean.abs() > 1e-12**n
        return (mean.sign() * mean.abs().where(some, 1) ** (1 / n)).where(some, 0)

    return moment


SUMMARIES = {
    "sum": lambda m: m.sum(0),
    "var": lambda m: (m.unsqueeze(0) - m.unsqueeze(1)).square().mean((0, 1)) / 2,
    **{f"moment{n}": root_of_moment(n) for n in (3, 4, 5)},
    "mean": lambda m: m.mean(0),
    "max": lambda m: m.max(0).values,
    "min": lambda m: m.min(0).values,
    "std": spread,
}


def reference(conv, dense, x_src, x_dst, edge):
    """Node by node, with the network on the concatenation."""
    ends = torch.cat([dense.src @ x_src, dense.dst @ x_dst, *([] if edge is None else [edge])], 1)
    m, rows = conv.M(ends), []
    for v in range(len(x_dst)):
        mine = m[dense.dst[:, v] == 1]
        scale = math.log(len(mine) + 1) / conv.delta
        scales = {"identity": 1, "amplification": scale, "attenuation": 1 / scale if scale else 0}
        actual = torch.cat(
            [SUMMARIES[name](mine) if len(mine) else m.new_zeros(m.shape[1]) for name in conv.aggregators]
        )
        rows.append(torch.cat([x_dst[v], *[scales[name] * actual for name in conv.scalers]]))
    return conv.U(torch.stack(rows)) if rows else conv.U(x_dst.new_zeros(0, conv.U.in_features))


def isolated(conv, x_dst):
    return conv.U(torch.cat([x_dst, x_dst.new_zeros(len(x_dst), conv.U.in_features - x_dst.shape[1])], 1))


def case(name, in_feats=5, edge_feats=0, **options):
    def make():
        return PNAConv(in_feats, 3, edge_feats, **options)

    return Case(name, make, reference, isolated, in_feats, edge=edge_feats or None, needs_dst=True, maxima=True)


CASES = [
    case("plain", delta=1.7),
    case("edges", edge_feats=2, scalers=("attenuation", "identity")),
    case("sum-var", aggregators=("sum", "var"), scalers=("identity", "amplification"), edge_feats=2),
    case("pair", in_feats=(4, 6), aggregators=("max", "mean"), scalers=("amplification",), delta=0.5),
]

test_every_graph = on_every_graph(CASES)
test_properties = properties(CASES)


# dgl.nn and PyG take the deviation from E m^2 - (E m)^2, which is not 0 where all messages are equal
UNEQUAL = {
    "random": lambda: dgl.to_simple(random_graph(), return_counts=None),
    "clique": clique,
    "path": path,
    "batch": lambda: dgl.batch([clique(4), path(3)]),
}


@pytest.mark.parametrize("edge_feats", [0, 2])
@pytest.mark.parametrize("name", UNEQUAL)
def test_equals_a_tower_of_dgl(name, edge_feats):
    torch.manual_seed(0)
    graph = UNEQUAL[name]()
    x, edge = torch.randn(graph.num_nodes(), 5).double(), torch.randn(graph.num_edges(), edge_feats).double()
    args = (x, edge) if edge_feats else (x,)
    theirs = dgl.nn.pytorch.conv.pnaconv.PNAConvTower(5, 3, *EVERY, 1.7, edge_feat_size=edge_feats).double().eval()
    conv = PNAConv(5, 3, edge_feats, aggregators=EVERY[0], scalers=EVERY[1], delta=1.7).double()
    conv.load_state_dict({name: value for name, value in theirs.state_dict().items() if name[0] in "MU"})
    size = graph.batch_num_nodes().repeat_interleave(graph.batch_num_nodes()).double()
    norm = (size * (1 + theirs.batchnorm.eps)).sqrt().unsqueeze(1)  # its graph and batch normalisation
    torch.testing.assert_close(conv(graph, *args), theirs(graph, *args) * norm, rtol=0, atol=1e-12)


def test_further_aggregators_equal_those_of_dgl():
    """On a clique, as the odd moments of two messages are the root of a rounding error."""
    graph, aggregators = clique(6), ["sum", "var", "moment3", "moment4", "moment5"]
    x = torch.randn(6, 5).double()
    theirs = dgl.nn.pytorch.conv.pnaconv.PNAConvTower(5, 3, aggregators, EVERY[1], 1.7).double().eval()
    conv = PNAConv(5, 3, aggregators=aggregators, scalers=EVERY[1], delta=1.7).double()
    conv.load_state_dict({name: value for name, value in theirs.state_dict().items() if name[0] in "MU"})
    norm = math.sqrt(6 * (1 + theirs.batchnorm.eps))  # its graph and batch normalisation
    torch.testing.assert_close(conv(graph, x), theirs(graph, x) * norm, rtol=0, atol=1e-10)


@pytest.mark.parametrize("name", UNEQUAL)
def test_equals_the_layer_of_pyg(name):
    """Its last linear layer set to the identity; it reads the destination before the source."""
    nn = pytest.importorskip("torch_geometric.nn", reason="PyTorch Geometric is not installed")
    torch.manual_seed(0)
    graph = UNEQUAL[name]()
    x = torch.randn(graph.num_nodes(), 5).double()
    histogram = torch.bincount(graph.in_degrees())
    theirs = nn.PNAConv(5, 3, list(EVERY[0]), list(EVERY[1]), histogram).double()
    torch.nn.init.eye_(theirs.lin.weight)
    torch.nn.init.zeros_(theirs.lin.bias)
    first, last = theirs.pre_nns[0][0], theirs.post_nns[0][0]
    delta = (graph.in_degrees() + 1.0).log().mean().item()
    assert theirs.aggr_module.avg_deg_log.item() == pytest.approx(delta)
    conv = PNAConv(
        5, 3, 0, aggregators=EVERY[0], scalers=EVERY[1], delta=theirs.aggr_module.avg_deg_log.item()
    ).double()
    message = torch.cat(first.weight.split(5, 1)[::-1], 1)
    conv.load_state_dict({"M.weight": message, "M.bias": first.bias, **last.state_dict(prefix="U.")})
    torch.testing.assert_close(conv(graph, x), theirs(x, torch.stack(graph.edges())), rtol=0, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_equal_messages_have_a_deviation_and_a_gradient_of_zero(dtype):
    """However large they are: no rounding of E m^2 - (E m)^2 shows, and nothing is divided by 0."""
    graph = dgl.graph(([0, 1, 2, 3, 4], [4, 4, 4, 4, 0]))
    x = torch.full((5, 1), 1e4, dtype=dtype, requires_grad=True)
    conv = PNAConv(1, 1, aggregators=["std"], scalers=["identity"]).to(dtype)
    y = conv(graph, x)
    torch.testing.assert_close(y, isolated(conv, x), rtol=0, atol=0)
    y.sum().backward()
    assert torch.equal(x.grad, conv.U.weight[0, 0].detach().expand(5, 1))


def test_nothing_is_kept_along_edges_without_edge_features_and_deviation():
    graph, x = GRAPHS["random"](), torch.randn(11, 5, requires_grad=True)
    conv = PNAConv(5, 3, aggregators=("mean", "max", "min"))
    saved = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t.shape) or t, lambda t: t):
        conv(graph, x)
    assert saved
    assert all(graph.num_edges() not in shape for shape in saved)
    with counted_kernels() as called:
        conv(graph, x)
    assert sorted(called) == ["neighbour_max", "neighbour_max", "scaled_sum"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(aggregators=("mean", "median")), r"aggregators of \['mean', .*'moment5'\], got .*'median'"),
        (dict(aggregators=()), r"aggregators of .*, got \(\)"),
        (dict(scalers=("linear",)), r"scalers of \['identity', 'amplification', 'attenuation'\], got \('linear',\)"),
        (dict(edge_feats=-1), "edge_feats >= 0, got -1"),
        (dict(delta=0.0), "a positive delta, got 0.0"),
        (dict(delta=float("nan")), "a positive delta, got nan"),
    ],
)
def test_invalid_arguments(options, message):
    with pytest.raises(ValueError, match=message):
        PNAConv(5, 3, **options)
