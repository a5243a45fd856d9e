"""Temporary evaluation of a model that restores its state."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

__all__ = ["evaluation_mode", "preserve_state"]


@contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Context in which ``model`` is in evaluation mode. On exit the mode of each module is restored."""
    modes = [(module, module.training) for module in model.modules()]
    try:
        model.eval()
        yield
    finally:
        for module, mode in modes:
            module.training = mode


@contextmanager
def preserve_state(model: nn.Module) -> Iterator[None]:
    """Context in which ``model`` is in evaluation mode, except that batch norms use the statistics of the batch.

    On exit the modes and buffers of the model, and the state of the random number generator, are restored.
    """
    buffers = [(buffer, buffer.clone()) for buffer in model.buffers()]
    try:
        with evaluation_mode(model), torch.random.fork_rng(devices=[]):
            for module in model.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    module.training = True
            yield
    finally:
        for buffer, before in buffers:
            buffer.copy_(before)
