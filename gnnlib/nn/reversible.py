"""Reversible layers (Li et al. 2021, arXiv 2106.07476): inputs computed from outputs in place of stored ones."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from gnnlib.graph import GraphLike, takes_graph
from gnnlib.graph._prepare import run_eagerly
from gnnlib.nn._arguments import Arguments, reset_parameters
from gnnlib.nn.layer import as_blocks

__all__ = ["Reversible", "ReversibleBlock"]


class ReversibleBlock(Arguments, nn.Module):
    r"""Grouped reversible residual (Li et al. 2021, arXiv 2106.07476): to each of C groups of features a function of
    the group before it is added.

    .. math:: y_0 = \sum_{i=2}^{C} x_i, \qquad y_i = x_i + f_i(y_{i-1}), \qquad i = 1, \dots, C

    The inverse solves this for x, from the last group to the first, with the same functions.

    Args:
        parts: f_1 to f_C, each a `GNNLayer`, a layer, which becomes a `GNNLayer`, or a module called as
            ``part(graph, x, edge, x0)``, from F / C features to as many

    Shapes:
        - x: (N, \*, F)
        - edge: as the parts take it
        - x0: (N, \*, F) or None, split as x is
        - output: (N, \*, F)

    Raises:
        ValueError: if there are fewer than two parts, or their number does not divide the width

    Example:
        >>> import torch
        >>> from gnnlib import GCNConv, GNNLayer, ReversibleBlock
        >>> import dgl
        >>> g, x = dgl.graph(([0, 1], [1, 0])), torch.randn(2, 6)
        >>> block = ReversibleBlock([GNNLayer(GCNConv(3, 3)), GNNLayer(GCNConv(3, 3))])
        >>> torch.allclose(block.inverse(g, block(g, x)), x, atol=1e-5)
        True
    """

    def __init__(self, parts: Sequence[nn.Module]):
        super().__init__()
        self.parts = nn.ModuleList(as_blocks("ReversibleBlock", parts))
        if len(self.parts) < 2:
            raise ValueError(f"ReversibleBlock: expected at least two parts, got {len(self.parts)}")

    def reset_parameters(self) -> None:
        """Draw the parameters of all parts anew."""
        reset_parameters(self.parts)

    def split(self, x: Tensor | None) -> list[Any]:
        """The groups of features, or None for each."""
        if x is None:
            return [None] * len(self.parts)
        if x.shape[-1] % len(self.parts):
            raise ValueError(f"ReversibleBlock: expected a width that {len(self.parts)} divides, got {x.shape[-1]}")
        return list(x.chunk(len(self.parts), -1))

    def change(self, i: int, seed: int | None, graph: GraphLike, before: Tensor, *inputs: Tensor | None) -> Tensor:
        """The output of part i. Under a seed it draws the same numbers again and no others change."""
        with _seeded(None if seed is None else seed + i, before.device):
            return self.parts[i](graph, before, *inputs)

    def forward(
        self,
        graph: GraphLike,
        x: Tensor,
        edge: Tensor | None = None,
        x0: Tensor | None = None,
        seed: int | None = None,
    ) -> Tensor:
        """Apply the parts.

        Args:
            graph: a graph or a batch
            x: node features, (N, \\*, F)
            edge: edge weights or edge features, as the parts take them
            x0: first hidden features, (N, \\*, F), or None
            seed: of the random draws; None for torch's random numbers

        Returns:
            Node features, (N, \\*, F).
        """
        ys, firsts = self.split(x), self.split(x0)
        before = sum(ys[1:])
        for i in range(len(ys)):
            before = ys[i] = ys[i] + self.change(i, seed, graph, before, edge, firsts[i])
        return torch.cat(ys, -1)

    @takes_graph("y")
    def inverse(
        self,
        graph: GraphLike,
        y: Tensor,
        edge: Tensor | None = None,
        x0: Tensor | None = None,
        seed: int | None = None,
    ) -> Tensor:
        """The input of ``forward`` from its output; with parts that draw at random, under the same seed.

        Args:
            graph: a graph or a batch
            y: output features, (N, \\*, F)
            edge: edge weights or edge features, as the parts take them
            x0: first hidden features, (N, \\*, F), or None
            seed: of the random draws

        Returns:
            Input features, (N, \\*, F).
        """
        xs, firsts = self.split(y), self.split(x0)
        for i in reversed(range(len(xs))):
            before = xs[i - 1] if i else sum(xs[1:])
            xs[i] = xs[i] - self.change(i, seed, graph, before, edge, firsts[i])
        return torch.cat(xs, -1)


class Reversible(Arguments, nn.Module):
    """Reversible blocks in a row, with memory that does not grow with their number.

    Only the output of the last block is stored. The backward pass computes the input of each block from its output,
    together with the gradients, so each part of a block runs twice. It uses the same random numbers as the forward
    pass. Use it as a block of a `Stack`: ``Stack([Reversible(blocks)], encoder=encoder, head=head)``.

    Memory: (N, \\*, F), and that of one part. Batch normalisation inside a part updates its running statistics in both
    passes. It is differentiable once.

    Args:
        blocks: each a `ReversibleBlock`

    Shapes:
        - x, edge, x0, output: those of the blocks

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from gnnlib import GCNConv, GNNLayer, Reversible, ReversibleBlock
        >>> import dgl
        >>> def part():
        ...     return GNNLayer(GCNConv(4, 4), activation=nn.ReLU())
        >>> model = Reversible([ReversibleBlock([part(), part()]) for _ in range(100)])
        >>> model(dgl.graph(([0, 1], [1, 0])), torch.ones(2, 8)).shape
        torch.Size([2, 8])
    """

    def __init__(self, blocks: Sequence[ReversibleBlock]):
        super().__init__()
        self.blocks = nn.ModuleList(as_blocks("Reversible", blocks))
        for block in self.blocks:
            if not isinstance(block, ReversibleBlock):
                kind = type(getattr(block, "conv", block)).__name__
                raise TypeError(f"Reversible: expected blocks ReversibleBlock([part, part]), got {kind}")

    def reset_parameters(self) -> None:
        """Draw the parameters of all blocks anew."""
        reset_parameters(self.blocks)

    def forward(self, graph: GraphLike, x: Tensor, edge: Tensor | None = None, x0: Tensor | None = None) -> Tensor:
        """Apply all blocks.

        Args:
            graph: a graph or a batch
            x: node features, (N, \\*, F)
            edge: edge weights or edge features, as the blocks take them
            x0: first hidden features, (N, \\*, F), or None

        Returns:
            Node features, (N, \\*, F).
        """
        if torch.compiler.is_compiling():
            return run_eagerly(self.forward, graph, x, edge, x0)
        start = int(torch.randint(2**31, ()))
        return _Reverse.apply(list(self.blocks), graph, start, x, edge, x0, *_learned(self))


def _learned(module: nn.Module) -> list[nn.Parameter]:
    return [p for p in module.parameters() if p.requires_grad]


@contextmanager
def _seeded(seed: int | None, device: torch.device) -> Iterator[None]:
    if seed is None:
        yield
        return
    cuda = [device.index] if device.type == "cuda" else []
    with torch.random.fork_rng(cuda):
        for generator in (torch.default_generator, *(torch.cuda.default_generators[i] for i in cuda)):
            generator.manual_seed(seed)
        yield


def _autocast(device: str) -> torch.autocast:
    """A context that repeats the present state of autocast, without its cache: weights that are cast in the forward
    pass, which records no derivatives, would serve where derivatives are needed."""
    enabled = torch.is_autocast_enabled(device)
    return torch.autocast(device, torch.get_autocast_dtype(device), enabled, cache_enabled=False)


class _Reverse(torch.autograd.Function):
    """The backward pass runs the parts again under the autocast of the forward pass."""

    @staticmethod
    def forward(
        ctx: Any,
        blocks: list[ReversibleBlock],
        graph: GraphLike,
        start: int,
        x: Tensor,
        edge: Tensor | None,
        x0: Tensor | None,
        *learned: nn.Parameter,
    ) -> Tensor:
        ctx.graph, ctx.learned, ctx.blocks, ctx.autocast = graph, learned, [], _autocast(x.device.type)
        with ctx.autocast:
            for block in blocks:
                ctx.blocks.append((block, start))
                x = block(graph, x, edge, x0, start)
                start += len(block.parts)
        ctx.save_for_backward(x, edge, x0)
        return x

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        y, *inputs = ctx.saved_tensors
        inputs = [None if t is None else t.detach().requires_grad_(t.requires_grad) for t in inputs]
        # allocated first: small tensors between large ones would fragment the memory that these free
        total = {t: torch.zeros_like(t) for t in (*inputs, *ctx.learned) if t is not None and t.requires_grad}
        for block, seed in reversed(ctx.blocks):
            y, grad = _undo(block, partial(_change, ctx, block, seed, inputs), y, grad, inputs, total)
        return None, None, None, grad, *(total.get(t) for t in (*inputs, *ctx.learned))


def _change(
    ctx: Any, block: ReversibleBlock, seed: int, inputs: Sequence[Tensor | None], i: int, before: Tensor
) -> Tensor:
    """The output of part i again, with its graph of derivatives."""
    edge, x0 = inputs
    with torch.enable_grad(), ctx.autocast:
        return block.change(i, seed, ctx.graph, before, edge, block.split(x0)[i])


def _undo(
    block: ReversibleBlock,
    change_of: Callable[[int, Tensor], Tensor],
    y: Tensor,
    grad: Tensor,
    inputs: Sequence[Tensor | None],
    total: dict[Tensor, Tensor],
) -> tuple[Tensor, Tensor]:
    """The input of a block and its gradient, from those of its output; other gradients are added to ``total``."""
    xs, grads = block.split(y), block.split(grad)  # from the last on, outputs are replaced by inputs
    for i in reversed(range(len(xs))):
        before = (xs[i - 1] if i else sum(xs[1:])).detach().requires_grad_()
        change = change_of(i, before)
        sources = [t for t in (*inputs, *_learned(block.parts[i])) if t is not None and t.requires_grad]
        through, *partials = torch.autograd.grad(
            change, [before, *sources], grads[i].to(change.dtype), allow_unused=True
        )
        for t, gradient in zip(sources, partials):
            if gradient is not None:
                total[t] += gradient
        xs[i] = xs[i] - change.detach()
        if through is not None:
            for j in [i - 1] if i else range(1, len(xs)):
                grads[j] = grads[j] + through
    return torch.cat(xs, -1), torch.cat(grads, -1)
