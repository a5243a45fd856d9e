"""Coarser graphs: against the dense S^T A S, merged label maps, PyTorch's pooling and networkx; and nets on them."""

import networkx
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from gnnlib import GATConv, aggregate
from gnnlib._platform.dgl import dgl
from gnnlib.coarsening.clusters import coarsen, graclus, voxel
from gnnlib.graph import add_self_loop
from gnnlib.grid import GridConv, GridPool, lattice, to_images, to_nodes
from gnnlib.images import Touching, graph_from_labels, paint, pixel_batch, pixel_graph
from gnnlib.testing.graphs import GRAPHS, HOMOGENEOUS, edgeless, endpoints, random_graph

RNG = np.random.default_rng(0)


def drawn_clusters(graph, upto=4, seed=0):
    torch.manual_seed(seed)
    return torch.randint(-1, upto, (graph.num_nodes(),))


def dense(graph, weight):
    """A[v, u], multi-edges added."""
    src, dst = endpoints(graph)
    a = torch.zeros(graph.num_nodes(), graph.num_nodes(), dtype=torch.float64)
    return a.index_put((dst, src), weight.double(), accumulate=True)


@pytest.mark.parametrize("name", HOMOGENEOUS)
def test_the_coarse_adjacency_is_the_dense_product(name):
    graph = GRAPHS[name]()
    graph.edata["weight"] = torch.rand(graph.num_edges(), dtype=torch.float64)
    graph.edata["vector"] = torch.rand(graph.num_edges(), 2, 3)
    graph.edata["tap"] = torch.zeros(graph.num_edges(), dtype=torch.int64)
    graph.ndata["area"] = torch.rand(graph.num_nodes(), dtype=torch.float64) + 0.1
    graph.ndata["x"] = torch.rand(graph.num_nodes(), 2, 2, dtype=torch.float64)
    graph.ndata["y"] = torch.rand(graph.num_nodes())
    coarse, pool, unpool = coarsen(graph, drawn_clusters(graph))
    assert coarse.idtype == pool.idtype == unpool.idtype == graph.idtype
    s = torch.zeros(graph.num_nodes(), coarse.num_nodes(), dtype=torch.float64)
    s[endpoints(pool)] = 1
    assert torch.equal(endpoints(pool)[0], torch.arange(graph.num_nodes()))
    assert bool((s.sum(1) == 1).all() and (s.sum(0) > 0).all())
    product = s.T @ dense(graph, graph.edata["weight"]) @ s
    torch.testing.assert_close(dense(coarse, coarse.edata["weight"]), product - product.diag().diag())
    assert set(coarse.edata) == {"weight", "vector"}
    area = s.T @ graph.ndata["area"]
    torch.testing.assert_close(coarse.ndata["area"], area)
    mean = torch.einsum("uv,u,uab->vab", s, graph.ndata["area"], graph.ndata["x"]) / area.view(-1, 1, 1)
    torch.testing.assert_close(coarse.ndata["x"], mean)
    torch.testing.assert_close(aggregate(pool, graph.ndata["x"], pool.edata["weight"]), mean)
    back = s @ mean.flatten(1)
    torch.testing.assert_close(aggregate(unpool, coarse.ndata["x"]).flatten(1), back)
    src, dst = endpoints(coarse)
    key = dst * max(coarse.num_nodes(), 1) + src
    assert bool((key.diff() > 0).all())  # sorted, each pair once


def test_coarsening_regions_is_merging_their_labels():
    labels, image = RNG.integers(0, 12, (9, 10)), RNG.random((9, 10, 3))
    cluster = RNG.integers(0, 5, 12)
    fine = graph_from_labels(image, labels, edges=Touching(), features=["mean", "centroid"])
    fine.ndata["area"] = torch.from_numpy(np.bincount(labels.ravel()).astype(np.float32))
    got = coarsen(fine, torch.from_numpy(cluster)).graph
    want = graph_from_labels(image, cluster[labels], edges=Touching(), features=["mean", "centroid"])
    assert all(torch.equal(a, b) for a, b in zip(got.edges(), want.edges()))
    for name in ("feat", "pos"):
        torch.testing.assert_close(got.ndata[name], want.ndata[name], rtol=1e-5, atol=1e-5)
    for name in ("border", "offset", "distance"):
        torch.testing.assert_close(got.edata[name], want.edata[name], rtol=1e-5, atol=1e-5)
    assert torch.equal(got.label_map, want.label_map)
    assert torch.equal(got.ndata["area"], torch.from_numpy(np.bincount(cluster[labels].ravel())).float())


def test_label_maps_stay_empty_outside_the_mask():
    mask = np.ones((4, 4), bool)
    mask[0] = False
    graph = pixel_graph((4, 4), mask=mask)
    coarse = coarsen(graph, voxel(graph, 2)).graph
    assert paint(coarse, torch.arange(1, 5)).tolist() == [[0] * 4, [1, 1, 2, 2], [3, 3, 4, 4], [3, 3, 4, 4]]


@pytest.mark.parametrize("method", ["voxel", "graclus", "given"])
def test_a_batch_is_its_graphs_one_by_one(method):
    graphs = [random_graph(6, 12), edgeless(1), random_graph(9, 18), edgeless(0), random_graph(5, 10), edgeless(2)]
    for graph in graphs:
        graph.ndata["pos"] = torch.rand(graph.num_nodes(), 2) * 5 - 2
        graph.edata["weight"] = torch.rand(graph.num_edges())
    find = {
        "voxel": lambda g: voxel(g, (2.0, 1.5)),
        "graclus": lambda g: graclus(g, g.edata["weight"]),
        "given": lambda g: g.nodes() // 2,
    }[method]
    alone = [coarsen(graph, find(graph)) for graph in graphs]
    batch = dgl.batch(graphs)
    cluster = find(batch) if method != "given" else torch.cat([g.nodes() // 2 for g in graphs])
    for i, together in enumerate(coarsen(batch, cluster)):
        assert together.batch_size == len(graphs)
        for got, want in zip(dgl.unbatch(together), [level[i] for level in alone]):
            assert got.ntypes == want.ntypes
            assert all(torch.equal(a, b) for a, b in zip(endpoints(got), endpoints(want)))
            for mine, theirs in ((got.srcdata, want.srcdata), (got.dstdata, want.dstdata), (got.edata, want.edata)):
                assert set(mine) == set(theirs)
                assert all(torch.equal(mine[name], theirs[name]) for name in mine)


@pytest.mark.parametrize("shape", [(6, 8), (5, 7), (1, 1)])
def test_voxels_on_pixels_are_the_windows_of_a_lattice(shape):
    graph, window = pixel_batch(shape, 2), lattice(shape, (2, 3), stride=(2, 3), ceil_mode=True)
    level = coarsen(graph, voxel(graph, (2, 3)))
    cell = torch.empty(shape[0] * shape[1], dtype=torch.int64)
    cell[endpoints(window)[0]] = endpoints(window)[1]
    assert torch.equal(endpoints(level.pool)[1], torch.cat([cell, cell + window.num_nodes("out")]))
    images = torch.randn(2, 4, *shape, dtype=torch.float64)
    x = to_nodes(images, copies=2).flatten(1)
    arguments = dict(kernel_size=(2, 3), stride=(2, 3), ceil_mode=True)
    out = F.max_pool2d(images, **arguments)
    for reduce, want in (("max", out), ("mean", F.avg_pool2d(images, **arguments, count_include_pad=False))):
        for got in (aggregate(level.pool, x, reduce=reduce), GridPool(reduce)(level.pool, x)):
            torch.testing.assert_close(to_images(got, out.shape[2:]), want)
    up = aggregate(level.unpool, to_nodes(out, copies=2).flatten(1))
    large = out.repeat_interleave(2, 2).repeat_interleave(3, 3)[..., : shape[0], : shape[1]]
    torch.testing.assert_close(to_images(up, shape), large)


def naive_matching(weight):
    """Pairs of the greedy matching of a symmetric matrix."""
    degree, pairs, free = weight.sum(0), [], set(range(len(weight)))
    while True:
        best = [
            (weight[u, v] * (1 / degree[u] + 1 / degree[v]), -u, -v)
            for u in free
            for v in free
            if u < v and weight[u, v] > 0
        ]
        if not best:
            return sorted(pairs)
        _, u, v = max(best)
        pairs.append((-u, -v))
        free -= {-u, -v}


@pytest.mark.parametrize("seed", range(5))
def test_graclus_is_greedy_and_at_least_half_the_best(seed):
    graph = random_graph(14, 30, seed)
    weight = torch.rand(30, dtype=torch.float64)
    a = dense(graph, weight).numpy()
    a = a + a.T
    np.fill_diagonal(a, 0)
    cluster = graclus(graph, weight)
    pairs = [tuple((cluster == c).nonzero().flatten().tolist()) for c in range(int(cluster.max()) + 1)]
    assert all(len(pair) <= 2 for pair in pairs)
    assert [pair[0] for pair in pairs] == sorted(pair[0] for pair in pairs)
    matched = sorted(pair for pair in pairs if len(pair) == 2)
    assert matched == naive_matching(a)
    degree = a.sum(0)
    score = {(u, v): a[u, v] * (1 / degree[u] + 1 / degree[v]) for u, v in zip(*np.nonzero(a))}
    net = networkx.Graph()
    net.add_weighted_edges_from((u, v, w) for (u, v), w in score.items())
    best = sum(score[pair] for pair in networkx.max_weight_matching(net))
    assert best / 2 <= sum(score[pair] for pair in matched) <= best + 1e-12


@pytest.mark.parametrize("name", HOMOGENEOUS)
def test_graclus_takes_any_graph(name):
    graph = GRAPHS[name]()
    cluster = graclus(graph)
    assert cluster.shape == (graph.num_nodes(),)
    assert coarsen(graph, cluster).graph.num_nodes() >= (graph.num_nodes() + 1) // 2
    assert torch.equal(cluster, graclus(graph))
    src, dst = endpoints(graph)
    alone = torch.bincount(cluster, minlength=1)[cluster] == 1
    assert not bool((alone[src] & alone[dst] & (src != dst)).any())  # no pair was missed
    zero = graclus(graph, torch.zeros(graph.num_edges()))
    assert torch.equal(zero, torch.arange(graph.num_nodes()))


def test_a_path_of_equal_weights_halves_each_time():
    graph = dgl.graph((torch.arange(63), torch.arange(1, 64)))
    for size in (32, 16, 8, 4, 2, 1, 1):
        graph = coarsen(graph, graclus(graph, graph.edata.get("weight"))).graph
        assert graph.num_nodes() == size


def test_a_small_unet_on_grids_is_pytorchs():
    """Down by the maximum of 2 x 2 windows, up by nearest neighbours, with skips: the same numbers."""
    torch.manual_seed(0)
    images = torch.randn(3, 2, 8, 6, dtype=torch.float64)
    first, middle, last = (nn.Conv2d(i, o, 3, padding=1).double() for i, o in ((2, 4), (4, 5), (9, 3)))
    skip = first(images).relu()
    low = middle(F.max_pool2d(skip, 2)).relu()
    want = last(torch.cat([skip, F.interpolate(low, scale_factor=2)], 1))

    def layer(conv, graph, x):
        ours = GridConv(conv.in_channels, conv.out_channels, 3).double()
        ours.load_state_dict(conv.state_dict())
        return ours(graph, x)

    fine, coarse = pixel_batch((8, 6), 3), pixel_batch((4, 3), 3)
    level = coarsen(fine, voxel(fine, 2))
    skip = layer(first, fine, to_nodes(images, copies=3).flatten(1)).relu()
    low = layer(middle, coarse, aggregate(level.pool, skip, reduce="max")).relu()
    y = layer(last, fine, torch.cat([skip, aggregate(level.unpool, low)], 1))
    torch.testing.assert_close(to_images(y, (8, 6)), want)


class UNet(nn.Module):
    """Attention at every scale: down by means, up with skips."""

    def __init__(self, in_feats, hidden, out_feats, depth):
        super().__init__()
        widths = [in_feats] + [hidden] * depth
        self.down = nn.ModuleList(GATConv(i, hidden, 1) for i in widths[:-1])
        self.bottom = GATConv(hidden, hidden, 1)
        self.up = nn.ModuleList(GATConv(2 * hidden, hidden, 1) for _ in range(depth))
        self.head = nn.Linear(hidden, out_feats)

    def forward(self, graph, levels, x):
        graphs, skips = [graph] + [level.graph for level in levels], []
        for conv, here, level in zip(self.down, graphs, levels):
            skips.append(F.elu(conv(here, x).flatten(1)))
            x = aggregate(level.pool, skips[-1], reduce="mean")
        x = F.elu(self.bottom(graphs[-1], x).flatten(1))
        for conv, here, level, skip in reversed(list(zip(self.up, graphs, levels, skips))):
            x = F.elu(conv(here, torch.cat([skip, aggregate(level.unpool, x)], 1)).flatten(1))
        return self.head(x)


def test_a_net_over_several_scales_sees_far():
    """Nine layers of one hop see both ends of a path of 32 nodes, and nothing of the other graph of the batch."""
    torch.manual_seed(0)
    path = dgl.to_bidirected(dgl.graph((torch.arange(31), torch.arange(1, 32))))
    batch, levels = add_self_loop(dgl.batch([path] * 2)), []
    for _ in range(4):
        below = levels[-1].graph if levels else batch
        level = coarsen(below, graclus(below))
        levels.append(level._replace(graph=add_self_loop(level.graph)))
    assert [level.graph.batch_num_nodes().tolist() for level in levels] == [[16] * 2, [8] * 2, [4] * 2, [2] * 2]
    net, x = UNet(1, 8, 1, depth=4).double(), torch.randn(64, 1, dtype=torch.float64, requires_grad=True)
    y = net(batch, levels, x)
    (grad,) = torch.autograd.grad(y[0].sum(), x, retain_graph=True)
    assert bool((grad[:32] != 0).all())
    assert not bool(grad[32:].any())
    y.sum().backward()
    assert all(p.grad is not None for p in net.parameters())


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (lambda g: coarsen(g, torch.zeros(4, dtype=torch.int64)), ValueError, r"expected shape \(3,\), got \(4,\)"),
        (lambda g: coarsen(g, torch.zeros(3)), TypeError, "expected a tensor of integers, got torch.float32"),
        (lambda g: coarsen(lattice(3, 1), torch.zeros(3).long()), ValueError, "3 sources, 3 destinations"),
        (lambda g: graclus(lattice(3, 1)), ValueError, "expected a graph with one node set, got 3 sources, 3 "),
        (lambda g: graclus(g, torch.tensor([1.0, -1.0])), ValueError, r"got shape \(2,\) from -1.0 to 1.0"),
        (lambda g: graclus(g, torch.tensor([1.0, torch.nan])), ValueError, "expected 2 finite numbers of at least 0"),
        (lambda g: graclus(g, torch.ones(3)), ValueError, r"expected 2 finite numbers .* got shape \(3,\)"),
        (lambda g: voxel(dgl.graph(([0], [1])), 2), KeyError, "expected a graph with ndata"),
        (lambda g: voxel(g, 0), ValueError, "expected a positive number, or one for each of 2 axes, got 0"),
        (lambda g: voxel(g, (1, 2, 3)), ValueError, r"for each of 2 axes, got \(1, 2, 3\)"),
    ],
)
def test_invalid_arguments(call, error, match):
    graph = dgl.graph(([0, 1], [1, 2]))
    graph.ndata["pos"] = torch.zeros(3, 2)
    with pytest.raises(error, match=match):
        call(graph)


@pytest.mark.parametrize("area", [0.0, -1.0, torch.nan])
def test_invalid_areas(area):
    graph = dgl.graph(([0], [1]))
    graph.ndata["area"] = torch.tensor([1.0, area])
    with pytest.raises(ValueError, match=f"area: expected positive numbers, got {area}"):
        coarsen(graph, torch.tensor([0, 0]))


def test_non_finite_positions():
    graph = dgl.graph(([0], [1]))
    graph.ndata["pos"] = torch.tensor([[0.0], [torch.nan]])
    with pytest.raises(ValueError, match="pos: expected finite positions, got nan"):
        voxel(graph, 1)
