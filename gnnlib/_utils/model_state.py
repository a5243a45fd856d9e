"""Trying a model out and leaving it as it was."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

__all__ = ["preserve_state"]


@contextmanager
def preserve_state(model: nn.Module) -> Iterator[None]:
    """In evaluation mode, but batch norms use the statistics of this batch, as in training. Afterwards the model's
    modes and buffers, and the random numbers, are as before."""
    modes = [(module, module.training) for module in model.modules()]
    buffers = [(buffer, buffer.clone()) for buffer in model.buffers()]
    try:
        model.eval()
        for module, _ in modes:
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.training = True
        with torch.random.fork_rng(devices=[]):
            yield
    finally:
        for module, mode in modes:
            module.training = mode
        for buffer, before in buffers:
            buffer.copy_(before)
