"""Fewer parameters for any layer: weights that several layers share, or that are made of fewer numbers.

A layer stays what it is; its weights become functions of others (``torch.nn.utils.parametrize``):

    Stack.build(lambda i, o: low_rank(GCNConv(i, o), 8) if i == o else GCNConv(i, o), ...)

The weights of a module are all its parameters named "weight" with two axes or more, those of the layers inside it
too; the last two axes are a matrix, any before them number matrices. Each starts at the nearest matrix of its new
form, scaled to the length it had, so that variances hold.

Call these before the optimizer is made. Such a layer is saved by its state dict: torch does not pickle it.
"""

from collections.abc import Callable, Iterable
from math import log
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

__all__ = ["circulant", "block_diagonal", "identity_mapping", "low_rank", "share_parameters_"]

Module = TypeVar("Module", bound=nn.Module)


def share_parameters_(modules: Iterable[nn.Module]) -> None:
    """All modules use the parameters of the first from here on, like one layer applied again and again (as in
    recurrent networks, and in Li et al. 2016, arXiv 1511.05493).

    ``share(stack.blocks[1:-1])``, or ``share(block.conv for block in stack.blocks[1::2])``. Buffers, such as
    the running statistics of a batch normalisation, stay with each.

    Raises: ValueError, before anything is changed, where names or shapes of parameters differ.

    >>> layers = [nn.Linear(3, 3) for _ in range(5)]
    >>> share_parameters_(layers)
    >>> sum(p.numel() for p in nn.ModuleList(layers).parameters())
    12
    """
    first, *others = modules
    shapes = _shapes(first)
    for number, other in enumerate(others, 1):
        if _shapes(other) != shapes:
            raise ValueError(f"share: expected parameters {shapes} in each, got {_shapes(other)} in number {number}")
    for other in others:
        for name, parameter in first.named_parameters(remove_duplicate=False):
            path, _, leaf = name.rpartition(".")
            setattr(other.get_submodule(path), leaf, parameter)


def _shapes(module: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(p.shape) for name, p in module.named_parameters(remove_duplicate=False)}


def low_rank(module: Module, rank: int) -> Module:
    """Every weight becomes a product of two thin matrices: W = U V, with (a + b) rank numbers in place of a b.

    Raises: ValueError for a rank below 1 or above that of a weight.

    >>> sum(p.numel() for p in low_rank(nn.Linear(64, 64, bias=False), 4).parameters())
    512
    """

    def form(weight: Tensor) -> nn.Module:
        most = min(weight.shape[-2:])
        if not 1 <= rank <= most:
            raise ValueError(f"low_rank: expected a rank from 1 to {most} for {tuple(weight.shape)}, got {rank}")
        return LowRank(rank)

    return _reform(module, form)


def block_diagonal(module: Module, groups: int) -> Module:
    """Every weight becomes block-diagonal: channels see those of their own group, a b / groups numbers.

    Raises: ValueError for a number of groups that does not divide both widths of a weight.

    >>> block_diagonal(nn.Linear(4, 4, bias=False), 2).weight.ne(0).int().tolist()
    [[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 1], [0, 0, 1, 1]]
    """

    def form(weight: Tensor) -> nn.Module:
        if groups < 1 or any(width % groups for width in weight.shape[-2:]):
            raise ValueError(f"grouped: expected a divisor of both widths of {tuple(weight.shape)}, got {groups}")
        return BlockDiagonal(groups)

    return _reform(module, form)


def circulant(module: Module, kernel: int) -> Module:
    """Every weight becomes a convolution along the channels, zero-padded: W[i, j] = w[i - j + kernel // 2], with
    ``kernel`` numbers.

    Raises: ValueError for an even kernel, or weights that are not square.

    >>> sum(p.numel() for p in circulant(nn.Linear(64, 64, bias=False), 9).parameters())
    9
    """
    if kernel < 1 or kernel % 2 == 0:
        raise ValueError(f"channel_conv: expected an odd kernel, got {kernel}")

    def form(weight: Tensor) -> nn.Module:
        _check_square("channel_conv", weight)
        return Circulant(weight.shape[-1], kernel)

    return _reform(module, form)


def identity_mapping(module: Module, layer: int, lam: float = 0.5) -> Module:
    r"""Every weight becomes (1 - beta) I + beta W with beta = log(lam / layer + 1), layers counted from 1 (GCNII:
    Chen et al. 2020, arXiv 2007.02133, equation 5): deep layers start close to the identity.

    No fewer parameters; weight decay draws to the identity in place of 0. For layers with a weight of their own, next
    to ``InitialResidual(..., lam=None)``. Layers that add a node to its neighbours (GIN, SAGE) double what comes in
    where all their matrices are the identity: they need a norm besides.

    On top of another form: ``identity_mapping(low_rank(conv, 8), layer)``.

    Raises: ValueError for weights that are not square.

    >>> far = identity_mapping(nn.Linear(64, 64, bias=False), layer=64)
    >>> bool((far.weight - torch.eye(64)).abs().max() < 0.02)
    True
    """
    beta = log(lam / layer + 1)

    def form(weight: Tensor) -> nn.Module:
        _check_square("identity_mapping", weight)
        return IdentityMapping(beta)

    return _reform(module, form)


def _check_square(name: str, weight: Tensor) -> None:
    if weight.shape[-1] != weight.shape[-2]:
        raise ValueError(f"{name}: expected square weights, got {tuple(weight.shape)}")


def _reform(module: Module, form: Callable[[Tensor], nn.Module]) -> Module:
    """Each weight in ``module`` as ``form`` of it makes it, all checked before the first is changed."""
    weights = {owner: getattr(owner, "weight", None) for owner in module.modules()}
    forms = {owner: form(w) for owner, w in weights.items() if isinstance(w, Tensor) and w.dim() > 1}
    if not forms:
        raise ValueError(f"expected a module with weights, got {type(module).__name__} without")
    for owner, made in forms.items():
        if isinstance(made, _Nearest) and parametrize.is_parametrized(owner, "weight"):
            raise ValueError(f"expected weights without a form, got one of {owner.parametrizations}")
    for owner, made in forms.items():
        parametrize.register_parametrization(owner, "weight", made)
    return module


class _Nearest(nn.Module):
    """A form of weights: ``forward`` makes the matrix of its numbers, ``nearest`` the numbers of the nearest matrix."""

    def nearest(self, weight: Tensor) -> Tensor | tuple[Tensor, ...]:
        raise NotImplementedError

    def right_inverse(self, weight: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Called once, where a weight takes this form."""
        found = self.nearest(weight)
        length = self(*found if isinstance(found, tuple) else (found,)).norm()
        return self.nearest(weight * (weight.norm() / length if length > 0 else 1.0))


class LowRank(_Nearest):
    """The product of two factors."""

    def __init__(self, rank: int):
        super().__init__()
        self.rank = rank

    def forward(self, u: Tensor, v: Tensor) -> Tensor:
        return u @ v

    def nearest(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        u, s, v = torch.linalg.svd(weight, full_matrices=False)
        half = s[..., : self.rank].sqrt()
        return u[..., : self.rank] * half.unsqueeze(-2), half.unsqueeze(-1) * v[..., : self.rank, :]


class BlockDiagonal(_Nearest):
    """Blocks on the diagonal, zeros elsewhere."""

    def __init__(self, groups: int):
        super().__init__()
        self.groups = groups

    def forward(self, blocks: Tensor) -> Tensor:  # (..., G, a / G, b / G)
        same = torch.eye(self.groups).to(blocks)
        return torch.einsum("gh,...gab->...gahb", same, blocks).flatten(-2).flatten(-3, -2)

    def nearest(self, weight: Tensor) -> Tensor:
        a, b = weight.shape[-2:]
        cells = weight.unflatten(-1, (self.groups, b // self.groups)).unflatten(-3, (self.groups, a // self.groups))
        return cells.diagonal(dim1=-4, dim2=-2).movedim(-1, -3).contiguous()


class Circulant(_Nearest):
    """A convolution over channels, as a banded matrix."""

    tap: Tensor

    def __init__(self, width: int, kernel: int):
        super().__init__()
        self.kernel = kernel
        each = torch.arange(width)
        tap = each.unsqueeze(1) - each + kernel // 2
        tap = tap.where((tap >= 0) & (tap < kernel), kernel)  # one more, which is 0
        self.register_buffer("tap", tap, persistent=False)

    def forward(self, kernel: Tensor) -> Tensor:
        return nn.functional.pad(kernel, (0, 1))[..., self.tap]

    def nearest(self, weight: Tensor) -> Tensor:
        one_hot = nn.functional.one_hot(self.tap, self.kernel + 1).to(weight)
        total = torch.einsum("...ij,ijk->...k", weight, one_hot) / one_hot.sum((0, 1)).clamp(min=1)
        return total[..., : self.kernel].contiguous()


class IdentityMapping(nn.Module):
    """(1 - beta) I + beta W."""

    def __init__(self, beta: float):
        super().__init__()
        self.beta = beta

    def forward(self, weight: Tensor) -> Tensor:
        return torch.lerp(torch.eye(weight.shape[-1]).to(weight), weight, self.beta)
