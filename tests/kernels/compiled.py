"""Kernels for CUDA compiled ahead, without a card: registers, spills and loads of 16 bytes.

python -m tests.kernels.compiled --capability 90 --types float32 bfloat16   # all configurations, in minutes
"""

import argparse
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import torch

from gnnlib import adjacency
from tests.kernels.cases import CALLS, VECTOR_CALLS, Inputs, call_on, hub

TYPES = {torch.float32: "fp32", torch.bfloat16: "bf16", torch.float16: "fp16", torch.int32: "i32", torch.int64: "i64"}
REGISTERS = 64
MORE = 96
"""Means with maxima in half precision: see `gnnlib.kernels.cuda.mean_max.registers`."""


class Configuration:
    """What a launch asks the compiler for: pointers are multiples of 16 bytes, as PyTorch's memory is."""

    def __init__(self, kernel, arguments: tuple, options: dict):
        self.kernel, self.arguments, pointers = kernel, arguments, {}
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


def fault(configuration: Configuration, capability: int, folder: Path) -> str | None:
    """What is wrong with a compiled kernel: spills, too many registers, or loads of fewer than 16 bytes."""
    compiled = configuration.compile(capability)
    used = resources(compiled.asm["cubin"], folder / "kernel.cubin")
    if used["STACK"] or used["REG"] > (MORE if configuration.options["maxnreg"] > REGISTERS else REGISTERS):
        return f"{used['REG']} registers, {used['STACK']} bytes of stack"
    if configuration.constants.get("VEC", 1) > 1 and "ld.global.v4" not in compiled.asm["ptx"]:
        return "no loads of 16 bytes"
    return None


WIDTHS = 1, 7, 8, 13, 16, 30, 32, 61, 64, 101, 128
"""All numbers of columns of a tile, with and without loads of 16 bytes."""


def all_configurations(dtype: torch.dtype) -> Iterator[Configuration]:
    """Those that a launch can ask for, each once."""
    keys = set()
    for name in [*CALLS, *VECTOR_CALLS]:
        for heads in (1, 4):
            for width in WIDTHS:
                for configuration in configurations(name, heads, width, dtype):
                    if configuration.key not in keys:
                        keys.add(configuration.key)
                        yield configuration


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])  # type: ignore[union-attr]
    parser.add_argument("--capability", type=int, default=90)
    parser.add_argument("--types", nargs="+", default=["float32", "bfloat16", "float16"])
    options = parser.parse_args()
    count = faults = 0
    with TemporaryDirectory() as folder:
        for dtype in options.types:
            for configuration in all_configurations(getattr(torch, dtype)):
                count += 1
                text = fault(configuration, options.capability, Path(folder))
                if text:
                    faults += 1
                    print(f"sm_{options.capability} {dtype} {configuration.key[0]}", text, configuration.constants)
    print(f"sm_{options.capability}: {count} configurations, {faults} with faults")
    return faults > 0


if __name__ == "__main__":
    sys.exit(main())
