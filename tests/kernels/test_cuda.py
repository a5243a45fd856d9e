"""Kernels for CUDA without a card: in Triton's interpreter against the reference, and compiled ahead."""

import inspect
import logging
import re
import subprocess
from types import SimpleNamespace

import pytest
import torch

from gnnlib import adjacency, kernels
from gnnlib.kernels import reference
from tests.kernels.cases import CALLS, VECTOR_CALLS, Inputs, RoundedInputs, call_on, hub
from tests.kernels.interpreted import CLOSE, LAYERS, OPERATIONS, assert_close
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

TYPES = {torch.float32: "fp32", torch.bfloat16: "bf16", torch.float16: "fp16", torch.int32: "i32", torch.int64: "i64"}
REGISTERS = 64


class Configuration:
    """What a launch asks the compiler for: pointers are multiples of 16 bytes, as PyTorch's memory is."""

    def __init__(self, kernel, arguments: tuple, options: dict):
        self.kernel, pointers = kernel, {}
        self.constants = {name: options[name] for name in kernel.arg_names if name in options}
        self.options = {name: value for name, value in options.items() if name not in self.constants}
        self.signature = dict.fromkeys(kernel.arg_names, "constexpr")
        for i, argument in enumerate(arguments):
            if isinstance(argument, torch.Tensor):
                self.signature[kernel.arg_names[i]] = "*" + TYPES[argument.dtype]
                pointers[(i,)] = [["tt.divisibility", 16]]
            else:
                self.signature[kernel.arg_names[i]] = "i32" if isinstance(argument, int) else "fp32"
        self.pointers = pointers
        self.key = kernel.__name__, str(self.signature), str(self.constants)

    def compile(self, capability: int):
        from triton.backends.compiler import GPUTarget
        from triton.compiler import ASTSource, compile

        source = ASTSource(self.kernel, self.signature, self.constants, self.pointers)
        return compile(source, GPUTarget("cuda", capability, 32), self.options)


def configurations(name: str, heads: int, width: int, dtype: torch.dtype) -> list[Configuration]:
    """Those of a call on a graph with hubs."""
    from triton.runtime.jit import JITFunction

    from gnnlib.kernels import cuda
    from gnnlib.kernels.cuda import plan

    launches: dict[tuple, Configuration] = {}

    def record(kernel, *arguments, grid, warmup, **options) -> None:
        configuration = Configuration(kernel, arguments, options)
        launches[configuration.key] = configuration

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(JITFunction, "run", record)
        patch.setattr(plan, "PIECE", 64)
        call_on(Inputs(adjacency(hub(60, 900)), heads, width, dtype), name, cuda)
    return list(launches.values())


def resources(binary: bytes, path) -> dict[str, int]:
    """Registers, stack and others, as cuobjdump prints them."""
    from triton import knobs

    path.write_bytes(binary)
    command = [knobs.nvidia.cuobjdump.path, "-res-usage", str(path)]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return {name: int(value) for name, value in re.findall(r"(\w+):(\d+)", text)}


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
            compiled = configuration.compile(capability)
            used = resources(compiled.asm["cubin"], tmp_path / "kernel.cubin")
            assert used["STACK"] == 0, (key, used)
            assert used["REG"] <= REGISTERS, (key, used)
            if configuration.constants.get("VEC", 1) > 1:
                assert "ld.global.v4" in compiled.asm["ptx"], key

    return call


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
