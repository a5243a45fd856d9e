"""Docstrings: examples can be pasted into a fresh shell, and each public ``forward`` is documented."""

import ast
import builtins
import doctest
import inspect
import pkgutil
from importlib import import_module
from importlib.util import find_spec

import pytest
from torch import nn

import gnnlib
from gnnlib._platform.dgl import HAS_DGL

ABSENT = (
    *(() if HAS_DGL else ("gnnlib.compat.dgl_nn",)),
    *(() if find_spec("triton") else ("gnnlib.kernels.cuda",)),
)
"""Modules that need a package that is not installed."""


def modules():
    for info in pkgutil.walk_packages(gnnlib.__path__, "gnnlib."):
        if not info.name.endswith("__main__") and not info.name.startswith(ABSENT):
            yield info.name


@pytest.mark.parametrize("name", list(modules()))
def test_examples_define_what_they_use(name):
    """Each name in an example is a builtin, or bound by the example itself."""
    finder = doctest.DocTestFinder(exclude_empty=True)
    missing = []
    for test in finder.find(import_module(name), name):
        source = "".join(example.source for example in test.examples)
        unbound = sorted(loads(ast.parse(source)) - set(dir(builtins)) - {"_"})
        if unbound:
            missing.append(f"{test.name}: {', '.join(unbound)}")
    assert missing == []


def loads(tree: ast.AST) -> set[str]:
    """Names that are read and never bound anywhere in the tree."""
    read, bound = set(), set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            (read if isinstance(node.ctx, ast.Load) else bound).add(node.id)
        elif isinstance(node, ast.alias):
            bound.add((node.asname or node.name).partition(".")[0])
        elif isinstance(node, ast.arg):
            bound.add(node.arg)
        elif isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            bound.add(node.name)
    return read - bound


def public_modules():
    """The modules of torch that the library offers."""
    packages = ["gnnlib", "gnnlib.nn", "gnnlib.models", "gnnlib.grid", "gnnlib.ops"]
    offered = {name: getattr(import_module(p), name) for p in packages for name in import_module(p).__all__}
    return {n: v for n, v in offered.items() if inspect.isclass(v) and issubclass(v, nn.Module) and is_ours(v.forward)}


def is_ours(forward) -> bool:
    return forward.__module__.startswith("gnnlib.")


@pytest.mark.parametrize("name", sorted(public_modules()))
def test_forward_is_documented(name):
    kind = public_modules()[name]
    text = inspect.getdoc(kind.forward) or ""
    assert "Args:" in text, f"{name}.forward says what it takes"
    assert "Returns:" in text, f"{name}.forward says what it returns"
    assert "Shape" in text + (inspect.getdoc(kind) or ""), f"{name} says the shapes"
