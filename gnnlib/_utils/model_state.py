"""Temporary evaluation of a model that restores its state."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

__all__ = ["preserve_state"]


@contextmanager
def preserve_state(model: nn.Module) -> Iterator[None]:
    """Context in which ``model`` is in evaluation mode, except that batch norms use the statistics of the batch.

    On exit the modes and buffers of the model, and the state of the random number generator, are restored.
    """
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
