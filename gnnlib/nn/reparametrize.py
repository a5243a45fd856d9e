"""Reparametrisation of any layer: shared, low-rank, block-diagonal and circulant weights, and identity mapping.

A layer keeps its class; its weights become functions of other parameters (``torch.nn.utils.parametrize``):

    Stack.build(lambda i, o: low_rank(GCNConv(i, o), 8) if i == o else GCNConv(i, o), ...)

The weights of a module are all parameters named "weight" with two axes or more, of the module and of the layers inside
it. The last two axes are a matrix; axes before them number matrices. The initial weight is the nearest matrix of the
new form, scaled to the norm of the weight before, so that variances are kept.

Call these functions before the optimizer is made. Such a layer is saved by its state dict: torch does not pickle it.
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
    """Weight sharing: all modules use the parameters of the first, like one layer applied repeatedly (as in recurrent
    networks, and in Li et al. 2016, arXiv 1511.05493).

    ``share_parameters_(stack.blocks[1:-1])``, or ``share_parameters_(block.conv for block in stack.blocks[1::2])``.
    Buffers, such as the running statistics of a batch normalisation, are not shared.

    Args:
        modules: of equal parameters; changed in place

    Raises:
        ValueError: if names or shapes of parameters differ; nothing is changed then

    Example:
        >>> from torch import nn
        >>> from gnnlib.nn.reparametrize import share_parameters_
        >>> layers = [nn.Linear(3, 3) for _ in range(5)]
        >>> share_parameters_(layers)
        >>> sum(p.numel() for p in nn.ModuleList(layers).parameters())
        12
    """
    first, *rest = modules
    shapes = _shapes(first)
    for number, other in enumerate(rest, 1):
        if _shapes(other) != shapes:
            raise ValueError(
                f"share_parameters_: expected parameters {shapes} in each, got {_shapes(other)} in number {number}"
            )
    for other in rest:
        for name, parameter in first.named_parameters(remove_duplicate=False):
            path, _, leaf = name.rpartition(".")
            setattr(other.get_submodule(path), leaf, parameter)


def _shapes(module: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(p.shape) for name, p in module.named_parameters(remove_duplicate=False)}


def low_rank(module: Module, rank: int) -> Module:
    """Low-rank weights: W = U V, with (a + b) rank parameters in place of a b.

    Args:
        module: changed in place
        rank: number of columns of U

    Returns:
        The module.

    Raises:
        ValueError: if rank is below 1 or above that of a weight

    Example:
        >>> from torch import nn
        >>> from gnnlib.nn.reparametrize import low_rank
        >>> sum(p.numel() for p in low_rank(nn.Linear(64, 64, bias=False), 4).parameters())
        512
    """

    def form(weight: Tensor) -> nn.Module:
        full = min(weight.shape[-2:])
        if not 1 <= rank <= full:
            raise ValueError(f"low_rank: expected a rank from 1 to {full} for {tuple(weight.shape)}, got {rank}")
        return LowRank(rank)

    return _reform(module, form)


def block_diagonal(module: Module, groups: int) -> Module:
    """Block-diagonal weights: channels depend on those of their group, with a b / groups parameters.

    Args:
        module: changed in place
        groups: number of blocks

    Returns:
        The module.

    Raises:
        ValueError: if the number of groups does not divide both widths of a weight

    Example:
        >>> from torch import nn
        >>> from gnnlib.nn.reparametrize import block_diagonal
        >>> block_diagonal(nn.Linear(4, 4, bias=False), 2).weight.ne(0).int().tolist()
        [[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 1], [0, 0, 1, 1]]
    """

    def form(weight: Tensor) -> nn.Module:
        if groups < 1 or any(width % groups for width in weight.shape[-2:]):
            raise ValueError(
                f"block_diagonal: expected a divisor of both widths of {tuple(weight.shape)}, got {groups}"
            )
        return BlockDiagonal(groups)

    return _reform(module, form)


def circulant(module: Module, kernel: int) -> Module:
    """Convolution along the channels, zero-padded: W[i, j] = w[i - j + kernel // 2], with ``kernel`` parameters.

    Args:
        module: changed in place
        kernel: length of the kernel, odd

    Returns:
        The module.

    Raises:
        ValueError: if kernel is even, or a weight is not square

    Example:
        >>> from torch import nn
        >>> from gnnlib.nn.reparametrize import circulant
        >>> sum(p.numel() for p in circulant(nn.Linear(64, 64, bias=False), 9).parameters())
        9
    """
    if kernel < 1 or kernel % 2 == 0:
        raise ValueError(f"circulant: expected an odd kernel, got {kernel}")

    def form(weight: Tensor) -> nn.Module:
        _check_square("circulant", weight)
        return Circulant(weight.shape[-1], kernel)

    return _reform(module, form)


def identity_mapping(module: Module, layer: int, lam: float = 0.5) -> Module:
    r"""Identity mapping: (1 - beta) I + beta W with beta = log(lam / layer + 1) (GCNII: Chen et al. 2020, arXiv
    2007.02133, equation 5). Deep layers are close to the identity initially.

    The number of parameters stays. Weight decay draws to the identity in place of 0. It is for layers with a weight,
    with ``InitialResidual(..., lam=None)``. Layers that add a node to its neighbours (GIN, SAGE) double their input if
    all their matrices are the identity: they need a norm too. It applies on top of another form:
    ``identity_mapping(low_rank(conv, 8), layer)``.

    Args:
        module: changed in place
        layer: number of the layer, from 1
        lam: lambda

    Returns:
        The module.

    Raises:
        ValueError: if a weight is not square

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from gnnlib.nn.reparametrize import identity_mapping
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
    for owner, parametrization in forms.items():
        if isinstance(parametrization, _Nearest) and parametrize.is_parametrized(owner, "weight"):
            raise ValueError(f"expected weights without a form, got one of {owner.parametrizations}")
    for owner, parametrization in forms.items():
        parametrize.register_parametrization(owner, "weight", parametrization)
    return module


class _Nearest(nn.Module):
    """A form of weights: ``forward`` makes the matrix of its numbers, ``nearest`` the numbers of the nearest matrix."""

    def nearest(self, weight: Tensor) -> Tensor | tuple[Tensor, ...]:
        raise NotImplementedError

    def right_inverse(self, weight: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Called once, where a weight takes this form."""
        numbers = self.nearest(weight)
        length = self(*numbers if isinstance(numbers, tuple) else (numbers,)).norm()
        return self.nearest(weight * (weight.norm() / length if length > 0 else 1.0))


class LowRank(_Nearest):
    """The product of two factors."""

    def __init__(self, rank: int):
        super().__init__()
        self.rank = rank

    def forward(self, u: Tensor, v: Tensor) -> Tensor:
        """Multiply the factors.

        Args:
            u: (..., a, rank)
            v: (..., rank, b)

        Returns:
            The weight, (..., a, b).
        """
        return u @ v

    def nearest(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        """The parameters of the nearest matrix of this form."""
        u, s, v = torch.linalg.svd(weight, full_matrices=False)
        half = s[..., : self.rank].sqrt()
        return u[..., : self.rank] * half.unsqueeze(-2), half.unsqueeze(-1) * v[..., : self.rank, :]


class BlockDiagonal(_Nearest):
    """Blocks on the diagonal, zeros elsewhere."""

    def __init__(self, groups: int):
        super().__init__()
        self.groups = groups

    def forward(self, blocks: Tensor) -> Tensor:
        """Place the blocks on the diagonal.

        Args:
            blocks: (..., G, a / G, b / G)

        Returns:
            The weight, (..., a, b).
        """
        same = torch.eye(self.groups).to(blocks)
        return torch.einsum("gh,...gab->...gahb", same, blocks).flatten(-2).flatten(-3, -2)

    def nearest(self, weight: Tensor) -> Tensor:
        """The parameters of the nearest matrix of this form."""
        a, b = weight.shape[-2:]
        cells = weight.unflatten(-1, (self.groups, b // self.groups)).unflatten(-3, (self.groups, a // self.groups))
        return cells.diagonal(dim1=-4, dim2=-2).movedim(-1, -3).contiguous()


class Circulant(_Nearest):
    """A convolution over channels, as a banded matrix."""

    tap: Tensor

    def __init__(self, width: int, kernel: int):
        super().__init__()
        self.kernel = kernel
        channel = torch.arange(width)
        tap = channel.unsqueeze(1) - channel + kernel // 2
        tap = tap.where((tap >= 0) & (tap < kernel), kernel)  # an entry after the kernel, which is 0
        self.register_buffer("tap", tap, persistent=False)

    def forward(self, kernel: Tensor) -> Tensor:
        """Place the kernel on the diagonals.

        Args:
            kernel: (..., kernel)

        Returns:
            The weight, (..., width, width).
        """
        return nn.functional.pad(kernel, (0, 1))[..., self.tap]

    def nearest(self, weight: Tensor) -> Tensor:
        """The parameters of the nearest matrix of this form."""
        one_hot = nn.functional.one_hot(self.tap, self.kernel + 1).to(weight)
        total = torch.einsum("...ij,ijk->...k", weight, one_hot) / one_hot.sum((0, 1)).clamp(min=1)
        return total[..., : self.kernel].contiguous()


class IdentityMapping(nn.Module):
    """(1 - beta) I + beta W."""

    def __init__(self, beta: float):
        super().__init__()
        self.beta = beta

    def forward(self, weight: Tensor) -> Tensor:
        """Interpolate with the identity.

        Args:
            weight: W, (..., a, a)

        Returns:
            (1 - beta) I + beta W
        """
        return torch.lerp(torch.eye(weight.shape[-1]).to(weight), weight, self.beta)
