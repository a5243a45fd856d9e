"""Kernels for CUDA without a card: in Triton's interpreter against the reference, and compiled ahead."""

import inspect
import logging
from types import SimpleNamespace

import pytest
import torch

from gnnlib import adjacency, kernels
from gnnlib.kernels import reference
from tests.kernels.cases import CALLS, VECTOR_CALLS, RoundedInputs, call_on, hub
from tests.kernels.compiled import configurations, fault
from tests.kernels.interpreted import CLOSE, LAYERS, OPERATIONS, SPECIAL, assert_close
from tests.served import served

NAMES = [*CALLS, *VECTOR_CALLS]
SHAPES = ((1, 1), (4, 3), (8, 32), (1, 100), (4, 128), (1, 300))
"""Heads and widths."""


# ---------------------------------------------------------------- the choice of kernels


def test_signatures_match_reference():
    pytest.importorskip("triton", reason="Triton is not installed (pip install triton)")
    from gnnlib.kernels import cuda

    for name in reference.__all__:
        expected, actual = (list(inspect.signature(getattr(module, name)).parameters) for module in (reference, cuda))
        assert actual == expected, name


def on_card(dtype: torch.dtype):
    return SimpleNamespace(device=torch.device("cuda", 0), dtype=dtype)


@pytest.fixture
def card(monkeypatch):
    """A card of compute capability 7.5, as far as PyTorch says."""
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 5))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Tesla T4")
    kernels._cuda.cache_clear()
    kernels._warn.cache_clear()
    yield
    kernels._cuda.cache_clear()


def test_choice_for_cuda_tensors(card, caplog):
    pytest.importorskip("triton", reason="Triton is not installed (pip install triton)")
    from gnnlib.kernels import cuda

    assert kernels.choose(on_card(torch.float32)) is kernels.choose(on_card(torch.float16)) is cuda
    assert kernels.choose(on_card(torch.float64)) is kernels.choose(on_card(torch.int32)) is reference
    assert caplog.messages == []


SLOWER = "; operations on CUDA tensors run in plain PyTorch, which takes more time and memory"


def test_choice_on_an_old_card(card, caplog):
    pytest.importorskip("triton", reason="Triton is not installed (pip install triton)")
    for _ in range(2):
        assert kernels.choose(on_card(torch.bfloat16)) is reference
    assert caplog.messages == [
        "gnnlib: expected a card of compute capability 8.0 or newer for torch.bfloat16, got Tesla T4 with 7.5" + SLOWER
    ]


def test_choice_with_an_old_triton(card, caplog, monkeypatch):
    triton = pytest.importorskip("triton", reason="Triton is not installed (pip install triton)")
    monkeypatch.setattr(triton, "__version__", "3.2.0")
    assert kernels.choose(on_card(torch.float32)) is reference
    expected = "gnnlib: expected Triton 3.3 or newer, as PyTorch 2.7 and newer bring it, got 3.2.0" + SLOWER
    assert caplog.messages == [expected]


def test_choice_without_triton(card, caplog, monkeypatch):
    monkeypatch.setattr(kernels.importlib.util, "find_spec", lambda name: None)
    for dtype in (torch.float32, torch.float16):
        assert kernels.choose(on_card(dtype)) is reference
    message = "gnnlib: expected Triton, which is not installed (pip install triton)"
    assert caplog.record_tuples == [("gnnlib", logging.WARNING, message + SLOWER)]


def test_tensors_on_two_devices_raise():
    pytest.importorskip("triton", reason="Triton is not installed (pip install triton)")
    from gnnlib.kernels import cuda

    adj, x = adjacency(hub()), torch.ones(500, 1, 4)
    with pytest.raises(ValueError, match="expected all tensors on one device, got cpu and meta"):
        cuda.edge_dot(adj.csc, x, x.to("meta"))


# ---------------------------------------------------------------- in Triton's interpreter


@pytest.fixture(scope="module")
def compare(server, tmp_path_factory):
    """Calls a function of `tests.kernels.interpreted` in a process of its own."""
    pytest.importorskip("triton", reason="Triton is not installed (pip install triton)")
    folder = tmp_path_factory.mktemp("interpreted")
    with served(server, folder, "tests.kernels.interpreted", TRITON_INTERPRET="1") as call:
        yield call


@pytest.mark.process
@pytest.mark.parametrize("name", NAMES)
def test_interpreted_call_matches_reference(compare, name):
    compare("compare_call", name, "joined", 3, 8, "float32")


@pytest.mark.slow
@pytest.mark.process
@pytest.mark.parametrize("name", NAMES)
def test_interpreted_call_in_half_precision(compare, name):
    dtype = "float16" if NAMES.index(name) % 4 == 3 else "bfloat16"
    compare("compare_call", name, "random", 4, 32, dtype)


@pytest.mark.slow
@pytest.mark.process
@pytest.mark.parametrize("name", NAMES)
def test_interpreted_call_for_other_shapes(compare, name):
    """A shape for each call: calls of the same kernel follow each other, and have different shapes."""
    compare("compare_call", name, "joined", *SHAPES[NAMES.index(name) % len(SHAPES)], "float32")


@pytest.mark.slow
@pytest.mark.process
@pytest.mark.parametrize("name", NAMES)
def test_interpreted_call_on_other_graphs(compare, name):
    for graph in ("no_nodes", "bare", "bipartite", "bare_block"):
        compare("compare_call", name, graph, 2, 3, "float32")


@pytest.mark.process
@pytest.mark.parametrize("name", ["sum, weighted", "attend"])
def test_interpreted_tile_of_a_card(compare, name):
    compare("compare_tile_of_a_card", name)


@pytest.mark.process
@pytest.mark.parametrize("name", SPECIAL)
def test_interpreted_special_values(compare, name):
    compare("compare_special_values", name)


@pytest.mark.process
@pytest.mark.parametrize("name", OPERATIONS)
def test_interpreted_gradients_match_reference(compare, name):
    compare("compare_gradients", name, False)


@pytest.mark.slow
@pytest.mark.process
@pytest.mark.parametrize("name", ["aggregate, weighted", "attend", "edge_dot", "edge_score", "convolve"])
def test_interpreted_second_derivatives_match_reference(compare, name):
    compare("compare_gradients", name, True)


@pytest.mark.process
@pytest.mark.parametrize("name", LAYERS)
def test_interpreted_layer_matches_reference(compare, name):
    compare("compare_layer", name)


# ---------------------------------------------------------------- compiled ahead

CHECKED: set[tuple] = set()


@pytest.fixture
def check(request, tmp_path, monkeypatch):
    """Compiles the configurations of a call, with a cache beside that of pytest: no spills, and loads of 16 bytes."""
    pytest.importorskip("triton", reason="Triton is not installed (pip install triton)")
    monkeypatch.setenv("TRITON_CACHE_DIR", str(request.config.cache.mkdir("triton")))

    def call(name: str, heads: int, width: int, dtype: torch.dtype, capability: int = 90) -> None:
        for configuration in configurations(name, heads, width, dtype):
            key = *configuration.key, capability
            if key in CHECKED:
                continue
            CHECKED.add(key)
            assert fault(configuration, capability, tmp_path) is None, key

    return call


def test_configurations_are_those_of_the_launcher():
    """Triton's launcher derives the same types, constants, alignments and options from the arguments of a launch."""
    pytest.importorskip("triton", reason="Triton is not installed (pip install triton)")
    from triton.backends.compiler import GPUTarget
    from triton.compiler import make_backend
    from triton.runtime.jit import create_function_from_signature

    backend = make_backend(GPUTarget("cuda", 90, 32))
    for name in ("sum, scaled", "dropped_sum", "attend_grad, weighted", "rectified_mean_max_grad"):
        for configuration in configurations(name, 4, 32, torch.bfloat16):
            kernel = configuration.kernel
            bind = create_function_from_signature(kernel.signature, kernel.params, backend)
            keywords = configuration.constants | configuration.options
            bound = bind(*configuration.arguments, **keywords)
            options, signature, constants, attributes = kernel._pack_args(backend, keywords, *bound)
            assert signature == configuration.signature
            assert {kernel.arg_names[i]: value for (i,), value in constants.items()} == configuration.constants
            assert {place: value for place, value in attributes.items() if value} == configuration.pointers
            assert {key: getattr(options, key) for key in configuration.options} == configuration.options


FIRST = "sum, weighted", "max", "edge_dot", "attend_grad"


@pytest.mark.process
@pytest.mark.parametrize(
    "name", [*FIRST, *(pytest.param(name, marks=pytest.mark.slow) for name in NAMES if name not in FIRST)]
)
def test_compiles_without_spills(check, name):
    check(name, 1, 32, torch.float32)


TILES = [(1, 1), (4, 8), (1, 7), (4, 16), (1, 30), (1, 64), (4, 128), (1, 100), (1, 301)]
"""Heads and widths that together have the tiles of each number of columns."""


@pytest.mark.slow
@pytest.mark.process
@pytest.mark.parametrize(("heads", "width"), TILES)
def test_compiles_each_tile_without_spills(check, heads, width):
    for dtype, capability in ((torch.float32, 80), (torch.bfloat16, 90)):
        check("sum, weighted", heads, width, dtype, capability)


# ---------------------------------------------------------------- on a card


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no card")
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("name", NAMES if torch.cuda.is_available() else ["any"])
def test_call_on_a_card(name, dtype):
    """All shapes against the reference, on a graph with hubs of the real size of pieces; the same bits twice."""
    from gnnlib.kernels import cuda

    kind, adj = getattr(torch, dtype), adjacency(hub(500, 20000)).to(torch.device("cuda"))
    for heads, width in SHAPES:
        expected = call_on(RoundedInputs(adj, heads, width, kind), name, reference)
        first, second = (call_on(RoundedInputs(adj, heads, width, kind), name, cuda) for _ in range(2))
        assert_close(first, expected, 10 * CLOSE[kind])  # sums of thousands of numbers
        assert all(torch.equal(a.nan_to_num(), b.nan_to_num()) for a, b in zip(first, second, strict=True))
