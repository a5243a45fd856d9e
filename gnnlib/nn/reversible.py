"""Reversible layers: their input can be computed from their output, so a net of them keeps no activations."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from gnnlib._platform.dgl import dgl

__all__ = ["Reversible", "ReversibleBlock"]


class ReversibleBlock(nn.Module):
    r"""Grouped reversible residual (Li et al. 2021, arXiv 2106.07476): each of C groups of features is changed by a
    function of the group before it.

    .. math:: y_0 = \sum_{i=2}^{C} x_i, \qquad y_i = x_i + f_i(y_{i-1}), \qquad i = 1, \dots, C

    Solved for x from the last group to the first, the same functions lead back.

    Args:
        parts: f_1 to f_C, each a `GNNLayer` (or a module called as ``part(graph, x, edge, x0)``) from F / C features
            to as many

    Shapes: x (N, \*, F); edge as the parts take it; x0 (N, \*, F) or None, split as x is; returns (N, \*, F).

    Raises: ValueError for fewer than two parts, or a width that their number does not divide.

    >>> from gnnlib import GNNLayer, GCNConv
    >>> g, x = dgl.graph(([0, 1], [1, 0])), torch.randn(2, 6)
    >>> block = ReversibleBlock([GNNLayer(GCNConv(3, 3)), GNNLayer(GCNConv(3, 3))])
    >>> torch.allclose(block.inverse(g, block(g, x)), x, atol=1e-5)
    True
    """

    def __init__(self, parts: Sequence[nn.Module]):
        super().__init__()
        if len(parts) < 2:
            raise ValueError(f"ReversibleBlock: expected at least two parts, got {len(parts)}")
        self.parts = nn.ModuleList(parts)

    def split(self, x: Tensor | None) -> list[Any]:
        if x is None:
            return [None] * len(self.parts)
        if x.shape[-1] % len(self.parts):
            raise ValueError(f"ReversibleBlock: expected a width that {len(self.parts)} divides, got {x.shape[-1]}")
        return list(x.chunk(len(self.parts), -1))

    def change(self, i: int, seed: int | None, graph: dgl.DGLGraph, before: Tensor, *given: Tensor | None) -> Tensor:
        """What part i adds. Under a seed it draws the same numbers again, and no one else's draws move."""
        with _seeded(None if seed is None else seed + i, before.device):
            return self.parts[i](graph, before, *given)

    def forward(
        self,
        graph: dgl.DGLGraph,
        x: Tensor,
        edge: Tensor | None = None,
        x0: Tensor | None = None,
        seed: int | None = None,
    ) -> Tensor:
        ys, firsts = self.split(x), self.split(x0)
        before = sum(ys[1:])
        for i in range(len(ys)):
            before = ys[i] = ys[i] + self.change(i, seed, graph, before, edge, firsts[i])
        return torch.cat(ys, -1)

    def inverse(
        self,
        graph: dgl.DGLGraph,
        y: Tensor,
        edge: Tensor | None = None,
        x0: Tensor | None = None,
        seed: int | None = None,
    ) -> Tensor:
        """The x of which ``forward`` makes y; with parts that draw at random, under the same seed."""
        xs, firsts = self.split(y), self.split(x0)
        for i in reversed(range(len(xs))):
            before = xs[i - 1] if i else sum(xs[1:])
            xs[i] = xs[i] - self.change(i, seed, graph, before, edge, firsts[i])
        return torch.cat(xs, -1)


class Reversible(nn.Module):
    """Reversible blocks in a row, with memory that does not grow with their number.

    The output alone is kept. The backward pass computes the input of each block from its output, part by part, and in
    the same go the gradients: each part runs twice in all. It draws at random what the forward pass drew.
    Serves as a block of a `Stack`: ``Stack([Reversible(blocks)], encoder, head=head)``.

    Args:
        blocks: each a `ReversibleBlock`

    Shapes: those of the blocks. Memory: (N, *, F), and what one part needs.

    Batch normalisation inside a part moves its running statistics in both passes. Differentiable once.

    >>> from gnnlib import GNNLayer, GCNConv
    >>> def part():
    ...     return GNNLayer(GCNConv(4, 4), activation=nn.ReLU())
    >>> model = Reversible([ReversibleBlock([part(), part()]) for _ in range(100)])
    >>> model(dgl.graph(([0, 1], [1, 0])), torch.ones(2, 8)).shape
    torch.Size([2, 8])
    """

    def __init__(self, blocks: Sequence[ReversibleBlock]):
        super().__init__()
        self.blocks = nn.ModuleList(blocks)

    def forward(self, graph: dgl.DGLGraph, x: Tensor, edge: Tensor | None = None, x0: Tensor | None = None) -> Tensor:
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


class _Reverse(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        blocks: list[ReversibleBlock],
        graph: dgl.DGLGraph,
        start: int,
        x: Tensor,
        edge: Tensor | None,
        x0: Tensor | None,
        *learned: nn.Parameter,
    ) -> Tensor:
        ctx.graph, ctx.learned, ctx.blocks = graph, learned, []
        for block in blocks:
            ctx.blocks.append((block, start))
            x = block(graph, x, edge, x0, start)
            start += len(block.parts)
        ctx.save_for_backward(x, edge, x0)
        return x

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        y, *given = ctx.saved_tensors
        given = [None if t is None else t.detach().requires_grad_(t.requires_grad) for t in given]
        # all sums are made first: small tensors between large ones would keep the heap from using their place again
        total = {t: torch.zeros_like(t) for t in (*given, *ctx.learned) if t is not None and t.requires_grad}
        for block, seed in reversed(ctx.blocks):
            y, grad = _undo(block, seed, ctx.graph, y, grad, given, total)
        return None, None, None, grad, *(total.get(t) for t in (*given, *ctx.learned))


def _undo(
    block: ReversibleBlock,
    seed: int,
    graph: dgl.DGLGraph,
    y: Tensor,
    grad: Tensor,
    given: Sequence[Tensor | None],
    total: dict[Tensor, Tensor],
) -> tuple[Tensor, Tensor]:
    """The input of a block and the gradient there, from those of its output; all other gradients join ``total``."""
    edge, x0 = given
    xs, grads = block.split(y), block.split(grad)  # from the last on, outputs are replaced by inputs
    for i in reversed(range(len(xs))):
        before = (xs[i - 1] if i else sum(xs[1:])).detach().requires_grad_()
        with torch.enable_grad():
            change = block.change(i, seed, graph, before, edge, block.split(x0)[i])
        others = [t for t in (*given, *_learned(block.parts[i])) if t is not None and t.requires_grad]
        through, *found = torch.autograd.grad(change, [before, *others], grads[i], allow_unused=True)
        for t, more in zip(others, found):
            if more is not None:
                total[t] += more
        xs[i] = xs[i] - change.detach()
        if through is not None:
            for j in [i - 1] if i else range(1, len(xs)):
                grads[j] = grads[j] + through
    return torch.cat(xs, -1), torch.cat(grads, -1)
