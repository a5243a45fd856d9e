"""Kernels: the reference against numpy and scipy, numba against the reference, and bits on any number of threads."""

import importlib
import inspect
import itertools
import pkgutil
import re
import weakref
from collections.abc import Iterator

import numba
import numpy as np
import pytest
import scipy.sparse
import scipy.special
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gnnlib import adjacency, aggregate, kernels
from gnnlib._platform.dgl import dgl
from gnnlib.kernels import cpu, reference
from gnnlib.kernels.cpu import rows, sums, team
from gnnlib.kernels.cpu.compile import jit
from gnnlib.kernels.cpu.rows import static
from gnnlib.kernels.cpu.tiles import tile_exp, tile_numbers
from gnnlib.kernels.cpu.vectors import at, get, put, store, write
from gnnlib.testing.graphs import GRAPHS, graph_strategy, random_graph
from tests.kernels.cases import CALLS, Inputs, RoundedInputs, call, call_on, hub

CLOSE = {torch.float64: 1e-12, torch.float32: 2e-5}


def assert_close(got: tuple[torch.Tensor, ...], want: tuple[torch.Tensor, ...], dtype: torch.dtype) -> None:
    for a, b in zip(got, want, strict=True):
        largest = float(b.abs().max()) if b.numel() else 0.0  # terms that cancel leave rounding errors
        atol = CLOSE[dtype] * max(1.0, largest)
        torch.testing.assert_close(a, b, rtol=CLOSE[dtype], atol=atol, equal_nan=True)


def bits(t: torch.Tensor) -> torch.Tensor:
    integers = {2: torch.int16, 4: torch.int32, 8: torch.int64}
    return t.view(integers[t.element_size()]) if t.is_floating_point() else t


@pytest.fixture
def threads() -> Iterator[None]:
    """Restores the number of torch's threads."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture
def two_threads(threads, monkeypatch) -> None:
    """All launches are parallel and prefetch, whatever their size."""
    torch.set_num_threads(2)
    monkeypatch.setattr(team, "TINY", 0)
    monkeypatch.setattr(rows, "CACHED", 0)


# ---------------------------------------------------------------- numba against the reference


@pytest.mark.parametrize("name", CALLS)
@settings(max_examples=12, deadline=None)
@given(
    graph=graph_strategy(),
    heads=st.sampled_from([1, 3]),
    width=st.sampled_from([1, 7, 33]),
    dtype=st.sampled_from([torch.float32, torch.float64]),
    seed=st.integers(0, 9),
)
def test_matches_reference_on_any_graph(name, graph, heads, width, dtype, seed):
    inputs = adjacency(graph), heads, width, dtype, seed
    assert_close(call(name, cpu, *inputs), call(name, reference, *inputs), dtype)


# Heads and widths. A kernel of attention is compiled for each tile: heads at a time x cache lines of a head. In float32
# these shapes give 1 x 1, 1 x 4, 4 x 1 and 1 x 8, in float64 1 x 1, 1 x 8 and 4 x 2; `test_tiles` has the others.
SHAPES = ((1, 1), (1, 7), (3, 0), (3, 1), (3, 7), (13, 5), (3, 33), (4, 16), (1, 150))


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.slow
def test_matches_reference_in_parallel(name, dtype, two_threads):
    for graph in (hub(), GRAPHS["bare"](), GRAPHS["no_nodes"](), GRAPHS["bipartite"]()):
        for heads, width in SHAPES:
            inputs = adjacency(graph), heads, width, dtype
            assert_close(call(name, cpu, *inputs), call(name, reference, *inputs), dtype)


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_bits_do_not_depend_on_threads(name, dtype, two_threads):
    for heads, width in SHAPES:
        inputs = adjacency(hub()), heads, width, dtype
        torch.set_num_threads(2)
        parallel = [call(name, cpu, *inputs) for _ in range(3)]
        torch.set_num_threads(1)
        serial = call(name, cpu, *inputs)
        for run in parallel:
            for a, b in zip(run, serial, strict=True):
                assert torch.equal(bits(a), bits(b))


@pytest.mark.parametrize("name", CALLS)
def test_bfloat16_is_float32_rounded_once(name, threads, monkeypatch):
    """The float32 results on the same numbers, rounded to nearest, to the bit; with one thread and with two."""
    monkeypatch.setattr(team, "TINY", 0)
    adj = adjacency(hub())
    expected = call_on(RoundedInputs(adj, 3, 7, torch.float32), name, cpu)
    other = call_on(RoundedInputs(adj, 3, 7, torch.bfloat16), name, reference)
    for num_threads in (1, 2):
        torch.set_num_threads(num_threads)
        actual = call_on(RoundedInputs(adj, 3, 7, torch.bfloat16), name, cpu)
        assert actual[0].dtype == torch.bfloat16
        for a, b in zip(actual, expected, strict=True):
            assert torch.equal(bits(a), bits(b.to(a.dtype)))
    assert [t.dtype for t in actual] == [t.dtype for t in other]
    scale = float(other[0].abs().max())
    torch.testing.assert_close(actual[0].float(), other[0].float(), rtol=2**-7, atol=1e-5 * scale)


@pytest.mark.parametrize("width", [16, 50, 200, 293])
@pytest.mark.parametrize("name", ["sum", "edge_sum"])
def test_bfloat16_sums_equal_rounded_reference(name, width):
    """Every path through a row: eight lines at a time, four, one, and an incomplete line."""
    adj = adjacency(hub())
    inputs = RoundedInputs(adj, 1 if name == "sum" else width, width, torch.float32)
    (expected,) = call_on(inputs, name, reference)
    (actual,) = call_on(RoundedInputs(adj, inputs.heads, width, torch.bfloat16), name, cpu)
    assert torch.equal(actual, expected.bfloat16())


@jit
def _copy(x, y):
    for i in range(0, len(x), 16):
        put(y, i, get(x, i, len(x) - i), len(x) - i)
        write(y, len(x) - 1, at(x, len(x) - 1))


@pytest.mark.parametrize("count", [16, 5])
def test_rounding_is_that_of_torch(count):
    """All upper halves with lower halves around a tie: ties to even, overflow to infinity, NaN."""
    upper = torch.arange(2**16, dtype=torch.int64).repeat_interleave(4)
    bits_ = upper * 2**16 + torch.tensor([0, 0x7FFF, 0x8000, 0x8001]).repeat(2**16)
    x = torch.where(bits_ >= 2**31, bits_ - 2**32, bits_).int().view(torch.float32)
    expected, got = x.bfloat16(), np.zeros((len(x) // count, count), np.uint16)
    numbers = x.numpy()[: got.size].reshape(got.shape)
    for i in range(len(got)):
        _copy(numbers[i], got[i])
    actual = torch.from_numpy(got.reshape(-1).view(np.int16)).view(torch.bfloat16)
    expected = expected[: got.size]
    assert torch.equal(actual.isnan(), expected.isnan())
    assert torch.equal(bits(actual.nan_to_num(0)), bits(expected.nan_to_num(0)))
    widened = np.zeros(2**16, np.float32)
    _copy(np.arange(2**16, dtype=np.uint16), widened)
    torch.testing.assert_close(
        torch.from_numpy(widened),
        torch.arange(2**16).short().view(torch.bfloat16).float(),
        rtol=0,
        atol=0,
        equal_nan=True,
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", ["attend", "attend_grad", "attend_ends_grad"])
def test_tiles(name):
    """1 x 2 and 2 x 4 heads and cache lines."""
    for heads, width in ((1, 20), (4, 40)):
        inputs = adjacency(hub()), heads, width, torch.float32
        assert_close(call(name, cpu, *inputs), call(name, reference, *inputs), torch.float32)


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.slow
def test_hubs_divided_among_threads(name, two_threads):
    """Two nodes have more in-edges, and two more out-edges, than one thread processes."""
    random = torch.Generator().manual_seed(2)
    hubs = torch.arange(2 * team.HUB + 100) % 2
    nodes = torch.randint(300, (len(hubs),), generator=random)
    graph = dgl.graph((torch.cat([hubs, nodes]), torch.cat([nodes, 2 - hubs])), num_nodes=300)
    assert len(team.plan(adjacency(graph).csc.indptr)) == team.CHUNKS + 1 + 2
    shapes = (
        ((3, 7), (1, 70), (4, 3)) if name.startswith("attend") else ((3, 7), (1, 70))
    )  # attention has tiles of heads
    for heads, width in shapes:
        inputs = adjacency(graph), heads, width, torch.float64
        torch.set_num_threads(2)
        shared = call(name, cpu, *inputs)
        torch.set_num_threads(1)
        assert_close(shared, call(name, reference, *inputs), torch.float64)
        for a, b in zip(shared, call(name, cpu, *inputs), strict=True):
            assert torch.equal(bits(a), bits(b))


@settings(deadline=None)  # the first example may compile
@given(degrees=st.lists(st.sampled_from([0, 1, 2, 5, 200, team.HUB, team.HUB + 1, 3 * team.HUB]), max_size=200))
def test_plan(degrees):
    """Each row is in one chunk, in order; only a chunk of one row has much more than its part; all hubs are listed."""
    indptr = torch.tensor([0, *degrees]).cumsum(0).int()
    plan = team.plan(indptr)
    bounds, hubs = plan[: team.CHUNKS + 1], plan[team.CHUNKS + 1 :]
    assert bounds[0] == 0
    assert bounds[-1] == len(degrees)
    assert (np.diff(bounds) >= 0).all()
    assert hubs.tolist() == [v for v, degree in enumerate(degrees) if degree > team.HUB]
    work = np.array([1 if degree > team.HUB else 1 + degree for degree in degrees], dtype=int)
    for low, high in itertools.pairwise(bounds):
        assert work[low:high].sum() <= work.sum() / team.CHUNKS + (work.max() if len(work) else 0)


def test_runs_on_threads_of_torch(two_threads, monkeypatch):
    seen = []
    monkeypatch.setattr(sums._sum, "compiled", lambda runtime, threads, *arrays: seen.append(threads))
    adj, x = adjacency(hub()), torch.ones(500, 1, 4)
    for count in (2, 1, 64, 2):
        torch.set_num_threads(count)
        cpu.neighbour_sum(adj.csc, x, None, 1)
    assert seen == [2, 1, 64, 2]
    monkeypatch.setattr(team, "TINY", 1 << 15)
    cpu.neighbour_sum(adj.csc, x[:, :, :1].contiguous(), None, 1)
    monkeypatch.setattr(team, "TINY", 0)
    monkeypatch.setattr(team, "_RUNTIME", 0)  # a PyTorch without OpenMP
    cpu.neighbour_sum(adj.csc, x, None, 1)
    assert seen[4:] == [1, 1]


def test_any_number_of_threads(two_threads):
    """Also more threads than cores, some of which get no chunk."""
    adj, x = adjacency(hub()), torch.randn(500, 1, 40)
    want = reference.neighbour_sum(adj.csc, x, None, 1)
    for count in (1, 2, 3, 8, 100):
        torch.set_num_threads(count)
        torch.testing.assert_close(cpu.neighbour_sum(adj.csc, x, None, 1), want, rtol=1e-5, atol=1e-4)


def test_bits_do_not_depend_on_alignment(two_threads):
    """Rows of 33 numbers start at any position within a vector register."""
    adj, x = adjacency(hub()), torch.randn(500 * 33 + 8)
    base = cpu.edge_dot(adj.csc, x[:-8].view(500, 1, 33), x[:-8].view(500, 1, 33))
    for shift in (1, 3, 8):
        moved = torch.empty_like(x)[shift : shift + 500 * 33].copy_(x[:-8]).view(500, 1, 33)
        assert torch.equal(cpu.edge_dot(adj.csc, moved, moved), base)


def test_arrays_of_an_adjacency_are_made_once():
    """Until its tensors move, as to the shared memory of a worker."""
    adj, x = adjacency(random_graph()), torch.rand(11, 1, 3)
    y = cpu.neighbour_sum(adj.csc, x, None, 1)
    array = team._array(adj.csc.indices)
    assert team._array(adj.csc.indices) is array
    assert array.ctypes.data == adj.csc.indices.data_ptr()
    for tensor in adj.csc:
        tensor.share_memory_()
    assert team._array(adj.csc.indices).ctypes.data == adj.csc.indices.data_ptr() != array.ctypes.data
    assert torch.equal(cpu.neighbour_sum(adj.csc, x, None, 1), y)


def test_cached_arrays_keep_no_tensor():
    tensor = torch.arange(5, dtype=torch.int32)
    team._array(tensor)
    reference = weakref.ref(tensor)
    del tensor
    assert reference() is None


def test_kernels_take_contiguous_tensors():
    adj = adjacency(random_graph())
    with pytest.raises(ValueError, match=r"kernel: expected contiguous tensors, got strides \(1, 11, 11\) of"):
        cpu.neighbour_sum(adj.csc, torch.rand(3, 1, 11).transpose(0, 2), None, 1)


@pytest.mark.parametrize("num_groups", [1, 5, 40])
def test_group(num_groups):
    key = torch.randint(num_groups, (30,), generator=torch.Generator().manual_seed(0), dtype=torch.int32)
    starts, order = cpu.group(key, num_groups)
    assert order.tolist() == np.argsort(key.numpy(), kind="stable").tolist()
    assert starts.diff().tolist() == np.bincount(key.numpy(), minlength=num_groups).tolist()
    for a, b in zip((starts, order), reference.group(key, num_groups)):
        assert a.dtype == b.dtype == torch.int32
        assert torch.equal(a, b)
    assert torch.equal(cpu.group(key.repeat_interleave(2)[::2], num_groups)[1], order)  # strided


def test_group_of_no_edges():
    for module in (cpu, reference):
        starts, order = module.group(torch.empty(0, dtype=torch.int32), 3)
        assert (starts.tolist(), order.tolist()) == ([0, 0, 0, 0], [])
        assert module.group(torch.empty(0, dtype=torch.int32), 0)[0].tolist() == [0]


def test_signatures_match_reference():
    for name in reference.__all__:
        expected, got = (list(inspect.signature(getattr(module, name)).parameters) for module in (reference, cpu))
        assert got == expected, name


def test_dropped_entries_are_independent():
    """The rate, and the correlation of adjacent columns, edges and keys: within 5 standard deviations of 0."""
    edges, width = 4000, 96
    for level in (2**31, 2**30, 3 * 2**30):
        rate = 1 - level / 2**32
        for key in (0, 1, 2**32 - 1, 1234567):
            mask = reference.retained(torch.arange(edges), torch.Size([width]), key, level).double() - rate
            other = (
                reference.retained(torch.arange(edges), torch.Size([width]), (key + 1) % 2**32, level).double() - rate
            )
            bound = 5 * rate * (1 - rate)
            assert abs(mask.mean()) < 5 * (rate * (1 - rate) / mask.numel()) ** 0.5
            for a, b in ((mask[1:], mask[:-1]), (mask[:, 1:], mask[:, :-1]), (mask[1:, 1:], mask[:-1, :-1])):
                assert abs((a * b).mean()) < bound / a.numel() ** 0.5
            columns = (mask.T @ mask / edges).fill_diagonal_(0)
            assert columns.abs().max() < 1.4 * bound / edges**0.5  # the largest of 4560 pairs of columns
            rows = (mask[:1000] @ mask[:1000].T / width).fill_diagonal_(0)
            assert rows.abs().max() < 1.4 * bound / width**0.5
            assert abs((mask[:-1] * other[:-1]).mean()) < bound / mask.numel() ** 0.5


def test_choose():
    assert kernels.choose(torch.zeros(1)) is cpu
    assert kernels.choose(torch.zeros(1, dtype=torch.float64)) is cpu
    assert kernels.choose(torch.zeros(1, dtype=torch.bfloat16)) is cpu
    assert kernels.choose(torch.zeros(1, dtype=torch.float16)) is reference
    assert kernels.choose(torch.zeros(1, device="meta")) is reference
    with kernels.force(reference):
        assert kernels.choose(torch.zeros(1)) is reference
        with pytest.raises(KeyError), kernels.force(cpu):
            raise KeyError
        assert kernels.choose(torch.zeros(1)) is reference
    assert kernels.choose(torch.zeros(1)) is cpu


KERNELS = {
    f"{module.name}.{name}": kernel
    for module in pkgutil.walk_packages(cpu.__path__, "gnnlib.kernels.cpu.")
    for name, kernel in vars(importlib.import_module(module.name)).items()
    if isinstance(kernel, team.Kernel)
}


def call_gated_and_rectified(i: Inputs) -> None:
    """The kernels that are tested with the operation they are part of."""
    x, y, e, one = (
        i.draw(i.adj.num_src, 8),
        i.draw(i.adj.num_dst, 8),
        i.draw(i.adj.num_edges, 8),
        i.edge()[:, 0].contiguous(),
    )
    r, c, share = i.draw(i.adj.num_edges, 2), i.draw(2, 8), i.draw(i.adj.num_dst)
    cpu.gated_sum(i.adj.csc, e, x)
    cpu.gate_grad(i.adj.csc, e, x, y, y)
    cpu.rectified_sum(i.adj.csc, x, e, one)
    cpu.rectified_grad(i.adj.csc, x, e, one, y)
    arg = cpu.rectified_mean_max(i.adj.csc, x, y, r, c, share)[2]
    cpu.rectified_mean_max_grad(i.adj.csc, i.adj.csr, x, y, r, c, share, arg, y, y)


@pytest.fixture(scope="module")
def float32_calls() -> dict[str, tuple]:
    """The arguments of each kernel in float32, and the kernel compiled for them."""
    calls, adj = {}, adjacency(GRAPHS["random"]())
    with pytest.MonkeyPatch.context() as patch:
        for name, kernel in KERNELS.items():

            def record(*arguments, name=name, compiled=kernel.compiled):
                calls.setdefault(name, arguments)
                compiled(*arguments)

            patch.setattr(kernel, "compiled", record)
        call_gated_and_rectified(Inputs(adj, 3, 7, torch.float32))
        for case in CALLS:
            call(case, cpu, adj, 3, 7, torch.float32)
    return calls


@pytest.mark.parametrize("name", KERNELS)
@pytest.mark.slow
def test_no_float64_in_float32_kernels(name, float32_calls):
    """A float64 constant or scalar in a loop would make it a float64 loop, at half the speed."""
    kernel, arguments = KERNELS[name].compiled, float32_calls[name]
    kinds = tuple(map(numba.typeof, arguments))
    assert not any(getattr(kind, "dtype", kind) == numba.float64 for kind in kinds)
    # inspect_llvm shows no code that comes from the cache; the module for callers is kept with it
    (compiled,) = (one for key, one in kernel.overloads.items() if (*key[:-1], *key[-1]) == kinds)
    code = str(compiled.library._get_module_for_linking())
    assert "float" in code
    assert not re.search(r"fpext|f(add|sub|mul|div) [^\n]*double|llvm\.\w+\.f64", code)


# ---------------------------------------------------------------- exp


@jit
def _exp(x, y, tile):
    for i in range(0, len(x), len(tile)):
        store(y, i, tile_exp(tile_numbers(x, i, tile)))


@pytest.mark.parametrize("count", [1, 4, 8])
@pytest.mark.parametrize(("dtype", "least"), [(np.float32, -87.2), (np.float64, -708.2)])
def test_exp_within_two_units_in_the_last_place(dtype, least, count):
    x = np.random.default_rng(0).uniform(least, 88, 8000).astype(dtype)
    x[:8] = 0, -0.0, 1e-9, -1e-9, np.log(2) / 2, -np.log(2) / 2, least, 88
    y = np.empty_like(x)
    _exp(x, y, (static(1),) * count)
    assert (y[:2] == 1).all()
    assert np.abs(y / np.exp(x.astype(np.longdouble)) - 1).max() < np.finfo(dtype).eps


def test_exp_of_small_numbers_and_nan():
    x = np.array([-np.inf, -3e38, -104, np.nan], np.float32)
    y = np.empty_like(x)
    _exp(x, y, (static(1),) * 4)
    assert np.array_equal(y, [0, 0, 0, np.nan], equal_nan=True)


# ---------------------------------------------------------------- NaN and infinity


NAN, INF = float("nan"), float("inf")
SPECIAL = {
    "nan first": [NAN, 1.0, 2.0],
    "nan in between": [1.0, NAN, 2.0],
    "nan last": [1.0, 2.0, NAN],
    "only nan": [NAN, NAN, NAN],
    "inf": [1.0, INF, 2.0],
    "two inf": [INF, INF, 2.0],
    "-inf": [-INF, 1.0, 2.0],
    "only -inf": [-INF, -INF, -INF],
    "inf and -inf": [-INF, INF, 0.0],
    "nan and inf": [INF, NAN, 0.0],
    "huge": [3e38, 3e38, -3e38],
    "far apart": [0.0, 200.0, -1e30],
    "zeros": [-0.0, 0.0, -0.0],
}
BOTH = pytest.mark.parametrize("module", [cpu, reference], ids=["cpu", "reference"])


@BOTH
@pytest.mark.parametrize("name", SPECIAL)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_special_values(module, name, dtype):
    adj = adjacency(dgl.graph(([0, 1, 2], [1, 1, 1])))
    values = torch.tensor(SPECIAL[name], dtype=dtype)
    y, arg = module.neighbour_max(adj.csc, values.view(3, 1, 1), None)
    torch.testing.assert_close(y.flatten(), torch.tensor([0.0, values.max(), 0.0], dtype=dtype), equal_nan=True)
    wins = values.isnan() if values.isnan().any() else values == values.max()
    assert arg.flatten().tolist() == [-1, wins.nonzero()[0].item(), -1]
    prob = module.edge_softmax(adj.csc, values.view(3, 1))
    torch.testing.assert_close(prob.flatten(), values.softmax(0), equal_nan=True)
    total = module.neighbour_sum(adj.csc, values.view(3, 1, 1), None, 1)
    torch.testing.assert_close(total[1, 0, 0], values.sum(), equal_nan=True)


@BOTH
@pytest.mark.parametrize("name", SPECIAL)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_special_scores(module, name, dtype):
    """Attention equals that of torch's softmax, with NaN, infinite and distant scores."""
    adj, score = adjacency(dgl.graph(([0, 1, 2], [1, 1, 1]))), torch.tensor(SPECIAL[name], dtype=dtype)
    feat = torch.tensor([1.0, 2.0, 4.0], dtype=dtype)
    want = (torch.nn.functional.leaky_relu(score, 0.2).softmax(0) * feat).sum()
    for src, dst in ((score, torch.zeros_like(score)), (torch.zeros_like(score), score[:1].expand(3))):
        y, *_ = module.attend(adj.csc, adj.csr, feat.view(3, 1, 1), src.view(3, 1), dst.reshape(3, 1), 0.2, None, None)
        torch.testing.assert_close(y.flatten()[1], want if src is score else _uniform(dst, feat), equal_nan=True)


def _uniform(score: torch.Tensor, feat: torch.Tensor) -> torch.Tensor:
    """The average if all scores are those of the destination."""
    return (torch.nn.functional.leaky_relu(score, 0.2).softmax(0) * feat).sum()


@BOTH
@pytest.mark.parametrize("apart", [1.0, 20.0, 39.0, 41.0, 80.0, 200.0])
@pytest.mark.parametrize("slope", [0.0, 0.2, 1.0, 2.0, -1.0])
def test_attention_with_distant_scores(module, apart, slope):
    """float32 against the formula in float64, below and above the spread at which the kernel is exact."""
    graph = hub(60, 600)
    adj, random = adjacency(graph), torch.Generator().manual_seed(0)
    src, dst = (apart * torch.rand(60, 3, generator=random) - shift for shift in (apart / 2, apart / 3))
    feat = torch.randn(60, 3, 5, generator=random)
    y, *saved = module.attend(adj.csc, adj.csr, feat, src, dst, slope, None, None)
    want, *exact = reference.attend(adj.csc, adj.csr, feat.double(), src.double(), dst.double(), slope, None, None)
    torch.testing.assert_close(y.double(), want, rtol=1e-5, atol=3e-5)
    grad = torch.randn(y.shape, generator=random)
    for a, b in zip(
        module.attend_grad(adj.csc, adj.csr, grad, feat, slope, None, *saved),
        reference.attend_grad(adj.csc, adj.csr, grad.double(), feat.double(), slope, None, *exact),
        strict=True,
    ):
        torch.testing.assert_close(a.double(), b, rtol=1e-4, atol=1e-5 * max(1.0, float(b.abs().max())))


@BOTH
def test_nan_and_inf_do_not_spread(module):
    """NaN at one node and head affects its successors only."""
    adj = adjacency(dgl.graph(([0, 1, 2], [1, 2, 0])))
    x = torch.tensor([[[NAN, 1.0], [2.0, INF]], [[3.0, 4.0], [5.0, 6.0]], [[7.0, 8.0], [9.0, 10.0]]])
    want = torch.stack([x[2], x[0], x[1]])
    torch.testing.assert_close(module.neighbour_sum(adj.csc, x, None, 2), want, equal_nan=True)
    torch.testing.assert_close(module.neighbour_max(adj.csc, x, None)[0], want, equal_nan=True)
    score = torch.tensor([[NAN, 1.0], [1.0, INF], [2.0, 3.0]])
    assert module.edge_softmax(adj.csc, score).isnan().tolist() == [[True, False], [False, True], [False, False]]


# ---------------------------------------------------------------- the reference against numpy and scipy


@pytest.fixture(params=["random", "multi_edge", "bipartite", "block", "hub"])
def arrays(request):
    """Adjacency, both ends of the edges as numpy arrays, and a generator."""
    graph = hub(60, 200) if request.param == "hub" else GRAPHS[request.param]()
    adj = adjacency(graph)
    return adj, adj.src.numpy().astype(int), adj.dst.numpy().astype(int), np.random.default_rng(0)


def test_sum_equals_scipy_product(arrays):
    adj, src, dst, random = arrays
    x, coeff = random.normal(size=(adj.num_src, 3, 5)), random.normal(size=(adj.num_edges, 3))

    def product(weight, h):
        return scipy.sparse.csr_matrix((weight, (dst, src)), (adj.num_dst, adj.num_src)) @ x[:, h]

    def kernel(x, coeff, heads):
        coeff = torch.from_numpy(coeff) if coeff is not None else None
        return reference.neighbour_sum(adj.csc, torch.from_numpy(x), coeff, heads).numpy()

    plain = np.stack([product(np.ones(adj.num_edges), h) for h in range(3)], 1)
    weighted = np.stack([product(coeff[:, h], h) for h in range(3)], 1)
    np.testing.assert_allclose(kernel(x, None, 3), plain, atol=1e-13)
    np.testing.assert_allclose(kernel(x, coeff, 3), weighted, atol=1e-13)
    np.testing.assert_allclose(kernel(x, coeff, 1), weighted.sum(1, keepdims=True), atol=1e-13)
    shared = np.stack([product(coeff[:, h], 0) for h in range(3)], 1)
    np.testing.assert_allclose(kernel(x[:, :1].copy(), coeff, 3), shared, atol=1e-13)


def test_max_equals_numpy(arrays):
    adj, src, dst, random = arrays
    x, coeff = random.normal(size=(adj.num_src, 2, 4)), random.normal(size=(adj.num_edges, 2))
    y, arg = reference.neighbour_max(adj.csc, torch.from_numpy(x), torch.from_numpy(coeff))
    message = coeff[:, :, None] * x[src]
    order = np.argsort(dst, kind="stable")
    rows, starts = np.unique(dst[order], return_index=True)
    want = np.zeros((adj.num_dst, 2, 4))
    want[rows] = np.maximum.reduceat(message[order], starts)
    np.testing.assert_array_equal(y.numpy(), want)
    for v in range(adj.num_dst):
        edges = np.flatnonzero(dst == v)
        expected = edges[message[edges].argmax(0)] if len(edges) else np.full((2, 4), -1)
        np.testing.assert_array_equal(arg[v].numpy(), expected)
    grad = random.normal(size=want.shape)
    dx = np.zeros_like(x)
    for v, h, f in np.argwhere(arg.numpy() >= 0):
        e = arg[v, h, f]
        dx[src[e], h, f] += coeff[e, h] * grad[v, h, f]
    got = reference.max_grad(adj.csr, torch.from_numpy(grad), arg, torch.from_numpy(coeff))
    np.testing.assert_allclose(got.numpy(), dx, atol=1e-13)


def test_dot_equals_einsum(arrays):
    adj, src, dst, random = arrays
    x, y = random.normal(size=(adj.num_src, 3, 5)), random.normal(size=(adj.num_dst, 3, 5))
    got = reference.edge_dot(adj.csc, torch.from_numpy(x), torch.from_numpy(y))
    np.testing.assert_allclose(got.numpy(), np.einsum("ehf,ehf->eh", x[src], y[dst]), atol=1e-13)
    got = reference.edge_dot(adj.csc, torch.from_numpy(x[:, :1]), torch.from_numpy(y))
    np.testing.assert_allclose(got.numpy(), np.einsum("ef,ehf->eh", x[src, 0], y[dst]), atol=1e-13)


def test_softmax_equals_scipy(arrays):
    adj, _, dst, random = arrays
    score, grad = random.normal(size=(adj.num_edges, 2)) * 5, random.normal(size=(adj.num_edges, 2))
    prob = reference.edge_softmax(adj.csc, torch.from_numpy(score))
    dscore = reference.edge_softmax_grad(adj.csc, prob, torch.from_numpy(grad))
    for v in range(adj.num_dst):
        edges = np.flatnonzero(dst == v)
        for h in range(2 if len(edges) else 0):
            p = scipy.special.softmax(score[edges, h])
            np.testing.assert_allclose(prob[edges, h].numpy(), p, atol=1e-14)
            jacobian = np.diag(p) - np.outer(p, p)
            np.testing.assert_allclose(dscore[edges, h].numpy(), jacobian @ grad[edges, h], atol=1e-13)


def test_score_equals_formula(arrays):
    """The gradients equal autograd's of the formula on edges."""
    adj, src, dst, random = arrays
    a, b = random.normal(size=(adj.num_src, 3, 4)), random.normal(size=(adj.num_dst, 1, 4))
    att, grad = random.normal(size=(3, 4)), random.normal(size=(adj.num_edges, 3))
    z = a[src] + b[dst]
    want = (np.where(z > 0, z, 0.2 * z) * att).sum(-1)
    a, b, att, grad = (torch.from_numpy(t).requires_grad_() for t in (a, b, att, grad))
    np.testing.assert_allclose(reference.edge_score(adj.csc, a, b, att, 0.2).detach().numpy(), want, atol=1e-13)
    score = (torch.nn.functional.leaky_relu(a[src] + b[dst], 0.2) * att).sum(-1)
    da, db, datt = torch.autograd.grad(score, (a, b, att), grad)
    torch.testing.assert_close(reference.edge_score_grad(adj.csr, a, b, att, 0.2, grad), da)
    torch.testing.assert_close(reference.edge_score_grad(adj.csc, b, a, att, 0.2, grad), db)
    torch.testing.assert_close(reference.edge_score_att_grad(adj.csc, a, b, 0.2, grad), datt)


# ---------------------------------------------------------------- a table

# Five nodes. In-neighbours of 0: 1, 2 and 2 again; of 1: 1; of 2: 0 and 4; of 3: none; of 4: 3.
SRC, DST = [1, 4, 2, 1, 0, 3, 2], [0, 2, 0, 1, 2, 4, 0]
X = [[1, -2], [3, 4], [-5, 6], [7, -8], [-9, 10]]
ONE = [2, 1, -1, 3, 4, 0, 1]
TWO = [[2, 1], [1, 0], [-1, 1], [3, 2], [4, -1], [0, 5], [1, 2]]

TABLE = [
    ("sum", X, None, [[-7, 16], [3, 4], [-8, 8], [0, 0], [7, -8]]),
    ("mean", X, None, [[-7 / 3, 16 / 3], [3, 4], [-4, 4], [0, 0], [7, -8]]),
    ("max", X, None, [[3, 6], [3, 4], [1, 10], [0, 0], [7, -8]]),
    ("sum", X, ONE, [[6, 8], [9, 12], [-5, 2], [0, 0], [0, 0]]),
    ("mean", X, ONE, [[2, 8 / 3], [9, 12], [-2.5, 1], [0, 0], [0, 0]]),
    ("max", X, ONE, [[6, 8], [9, 12], [4, 10], [0, 0], [0, 0]]),
    # two heads, each with both features
    (
        "sum",
        [[x, x] for x in X],
        TWO,
        [[[6, 8], [-12, 22]], [[9, 12], [6, 8]], [[-5, 2], [-1, 2]], [[0, 0], [0, 0]], [[0, 0], [35, -40]]],
    ),
    (
        "max",
        [[x, x] for x in X],
        TWO,
        [[[6, 8], [3, 12]], [[9, 12], [6, 8]], [[4, 10], [0, 2]], [[0, 0], [0, 0]], [[0, 0], [35, -40]]],
    ),
]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize(("reduce", "x", "coeff", "want"), TABLE)
def test_table(reduce, x, coeff, want, dtype):
    x, want = torch.tensor(x, dtype=dtype), torch.tensor(want, dtype=dtype)
    coeff = torch.tensor(coeff, dtype=dtype) if coeff is not None else None
    for order in ([0, 1, 2, 3, 4, 5, 6], [6, 5, 4, 3, 2, 1, 0], [2, 0, 6, 1, 5, 3, 4]):  # any order of edges
        graph = dgl.graph((torch.tensor(SRC)[order], torch.tensor(DST)[order]), num_nodes=5)
        got = aggregate(graph, x, coeff[order] if coeff is not None else None, reduce)
        assert got.dtype == dtype
        torch.testing.assert_close(got, want, rtol=0.02 if dtype.itemsize == 2 else CLOSE[dtype], atol=0)
        with kernels.force(reference):
            other = aggregate(graph, x, coeff[order] if coeff is not None else None, reduce)
        torch.testing.assert_close(other, got, rtol=CLOSE.get(dtype, 0.0), atol=0)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", CALLS)
def test_half_precision(name, dtype):
    """The reference in half precision, up to rounding."""
    adj = adjacency(GRAPHS["random"]())
    rounded = call(name, reference, adj, 3, 7, dtype)
    if name == "max, tied" or name.startswith("max_grad"):  # the edge of the maximum depends on the rounding
        assert all(t.isfinite().all() for t in rounded)
        return
    exact = call(name, reference, adj, 3, 7, torch.float64)
    assert rounded[0].dtype == dtype
    torch.testing.assert_close(rounded[0].double(), exact[0], rtol=0.1, atol=0.25 if dtype == torch.bfloat16 else 0.05)


# ---------------------------------------------------------------- the launcher


def test_unsupported_types_raise_at_each_call():
    kernel = sums._sum.compiled
    numbers = range(6 + len(sums.SumArgs._fields))
    for _ in range(2):
        with pytest.raises(numba.TypingError):
            kernel(*numbers)
    adj, x = adjacency(GRAPHS["random"]()), torch.ones(11, 1, 2)
    assert torch.equal(cpu.neighbour_sum(adj.csc, x, None, 1)[:, 0, 0], adj.in_degrees.float())


def test_kernels_have_distinct_cache_entries():
    """All launchers have the same code, and numba identifies functions by name and code."""
    names = [kernel.compiled._cache._cache_file._index_name for kernel in KERNELS.values()]
    assert len(set(names)) == len(names) > 20
