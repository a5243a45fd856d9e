"""What to write against a cause of failure: one line of code that runs as printed, with the model's sizes."""

import ast
import inspect
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, cast

from torch import Tensor, nn

import gnnlib.nn
from gnnlib.analysis.smoothing.base import adjacency_matrix
from gnnlib.graph import GraphLike
from gnnlib.nn import Stack
from gnnlib.nn.conv.base import Conv

__all__ = ["Sizes", "advise", "sizes_of"]

WORDS = {
    "over-smoothing": "or DropEdge, jumping knowledge, or fewer layers",
    "vanishing gradients": "or ReLU for saturating activations, lsuv_init_, or fit_layerwise",
    "exploding gradients": "or clip=1.0 in fit, a smaller initialisation, or a lower learning rate",
    "overfitting": "or weight decay, fewer parameters, patience= in fit, or more labels",
    "over-squashing": "or gtr, sdrf or add_virtual_node of gnnlib.rewiring",
}
"""Further remedies."""

REMEDIES: dict[str, Sequence[dict[str, str]]] = {
    "over-smoothing": (
        {"encoder": "True", "skip": "gnnlib.InitialResidual"},
        {"norm": "gnnlib.PairNorm"},
        {"jump": "gnnlib.JumpingKnowledge.max"},
    ),
    "vanishing gradients": (
        {"norm": "gnnlib.BatchNorm", "skip": "gnnlib.Residual"},
        {"encoder": "True", "skip": "gnnlib.InitialResidual"},
    ),
    "exploding gradients": ({"norm": "gnnlib.LayerNorm"}, {"norm": "gnnlib.BatchNorm"}),
    "overfitting": ({"dropout": "0.5", "drop_edge": "0.5"},),
}
"""Keywords of `Stack.build` against each cause; the first ones that the model lacks are advised."""


class Sizes(NamedTuple):
    """What `Stack.build` needs to make a stack like a model, as source text, and a rewiring that the graph can have."""

    conv: str
    in_feats: int
    hidden_feats: int
    out_feats: int
    num_layers: int
    keywords: dict[str, str]
    rewiring: str


def sizes_of(model: nn.Module, graph: GraphLike, x: Tensor, output: Tensor, widths: Sequence[int]) -> Sizes:
    """The sizes of a model, and the parts of it that a stack keeps.

    Args:
        model: any module
        graph: its input
        x: its input
        output: its output
        widths: of its layers
    """
    stack = next((module for module in model.modules() if isinstance(module, Stack)), None)
    inner = widths[:-1] or widths
    ((hidden, _),) = Counter(inner).most_common(1)
    conv, heads = _conv(stack if stack is not None else model)
    keywords = _keywords(stack) if stack is not None else {}
    if "readout" not in keywords and len(output) == graph.batch_size != graph.num_nodes():
        keywords["readout"] = "gnnlib.MeanReadout"
    num_layers = len(widths) if stack is None else max(1, len(stack.blocks))
    widths = x.shape[-1], -(-hidden // heads) * heads, output.shape[-1]
    return Sizes(conv, *widths, num_layers, keywords, _rewiring(graph))


def _rewiring(graph: GraphLike) -> str:
    counts = adjacency_matrix(graph).tocsr()
    fill = ", fill=1.0" if len(graph.edata) else ""
    if (counts != counts.T).nnz:  # edges in one direction
        return f"gnnlib.rewiring.add_k_hop_edges(graph, 4{fill})"
    return f"gnnlib.rewiring.fosr(graph, 0.3{fill})"


def _conv(model: nn.Module) -> tuple[str, int]:
    """The factory of the model's layers as source text, and the number of heads that must divide their widths."""
    conv = next((module for module in model.modules() if isinstance(module, Conv)), None)
    kind = type(conv)
    if conv is None or getattr(gnnlib.nn, kind.__name__, None) is not kind:
        return "gnnlib.GCNConv", 1
    options = [text for text in conv.extra_repr().split(", ") if "=" in text]
    names = [text.split("=")[0] for text in options]
    required = [n for n, p in inspect.signature(kind).parameters.items() if p.default is p.empty]
    literal = all(_is_literal(text.split("=", 1)[1]) for text in options)
    if not literal or not set(required) - {"in_feats", "out_feats"} <= {*names, "num_heads"}:
        return ("gnnlib.GCNConv", 1) if required[2:] else (f"gnnlib.{kind.__name__}", 1)
    heads = getattr(conv, "num_heads", 1)
    if not options:
        return f"gnnlib.{kind.__name__}", 1
    width = "o" if heads == 1 else f"o // {heads}"
    return f"lambda i, o: gnnlib.{kind.__name__}(i, {width}, {', '.join(options)})", heads


def _is_literal(text: str) -> bool:
    try:
        ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return False
    return True


def _keywords(stack: Stack) -> dict[str, str]:
    """The norm, skip and readout of a stack, where they are plain ones of the library."""
    keywords = {}
    block = next((block for block in stack.blocks if hasattr(block, "norm")), None)
    for name in ("norm", "skip"):
        text = _name_of(type(getattr(block, name, None)))
        if text is not None:
            keywords[name] = text
    if stack.readout is not None:
        readout = stack.readout
        text = _name_of(type(readout) if isinstance(readout, nn.Module) else readout)
        keywords["readout"] = text or "gnnlib.MeanReadout"
    if stack.encoder is not None:
        keywords["encoder"] = "True"
    return keywords


def _name_of(value: Any) -> str | None:
    """The name under which the library exports a class that needs at most its widths, or a function."""
    name = getattr(value, "__name__", "")
    if value is None or getattr(gnnlib.nn, name, None) is not value:
        return None
    required = [n for n, p in inspect.signature(cast(Callable, value)).parameters.items() if p.default is p.empty]
    return f"gnnlib.{name}" if set(required) <= {"feats", "in_feats", "out_feats", "graph", "x"} else None


def advise(cause: str, sizes: Sizes) -> str:
    """A line of code that makes a stack with a remedy that the model lacks, or rewires the graph, and a comment with
    further remedies."""
    if cause == "over-squashing":
        return f"graph = {sizes.rewiring}  # {WORDS[cause]}"
    if cause not in REMEDIES:
        return "# nothing to change"
    missing = [remedy for remedy in REMEDIES[cause] if not remedy.items() <= sizes.keywords.items()]
    keywords = {**sizes.keywords, **(missing[0] if missing else {})}
    layers = sizes.num_layers if missing else max(1, sizes.num_layers // 2)
    widths = f"{sizes.in_feats}, {sizes.hidden_feats}, {sizes.out_feats}, num_layers={layers}"
    options = "".join(f", {name}={text}" for name, text in keywords.items())
    return f"gnnlib.Stack.build({sizes.conv}, {widths}{options})  # {WORDS[cause]}"
