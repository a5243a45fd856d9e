"""Dropout of single features at the speed of memory on a CPU."""

import torch
from torch import Tensor, nn

__all__ = ["Dropout"]

LEVELS = 2**16


class Dropout(nn.Dropout):
    r"""Dropout (Srivastava et al. 2014, "Dropout: a simple way to prevent neural networks from overfitting", section
    4), drawn for four entries at a time.

    .. math:: y_i = \frac{z_i}{1 - p} x_i, \qquad z_i \sim \mathrm{Bernoulli}(1 - p)

    PyTorch draws one random number for each entry, which takes longer on a CPU than the layer that follows; here each
    number of 64 bits serves four. For ``nn.Dropout``, wherever that stands: the same argument, the same distribution,
    other draws.

    Args:
        p: probability that an entry is dropped, to the nearest of 65536 steps

    Shapes: x (\*); returns the same.

    Differs from the paper: kept entries grow by 1 / (1 - p) in training, in place of shrinking by 1 - p in evaluation.
    On other devices, and in place, it is ``nn.Dropout``.

    >>> _ = torch.manual_seed(0)
    >>> y = Dropout(0.25)(torch.ones(300, 100))
    >>> y.unique().tolist(), round(y.mean().item(), 1)
    ([0.0, 1.3333333730697632], 1.0)
    """

    def forward(self, x: Tensor) -> Tensor:
        level = round(self.p * LEVELS)
        if not self.training or self.inplace or x.device.type != "cpu" or not 0 < level < LEVELS:
            return super().forward(x)
        draws = torch.empty(-(-x.numel() // 4), dtype=torch.int64).random_(-(2**63), None)
        keep = draws.view(torch.int16)[: x.numel()].view(x.shape) >= level - LEVELS // 2
        return x * keep.to(x.dtype).mul_(LEVELS / (LEVELS - level))
