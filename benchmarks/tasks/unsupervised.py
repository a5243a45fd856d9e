"""Training without labels, for models that have a loss of their own."""

from typing import Any

import torch
from torch import Tensor, nn

from gnnlib._platform.dgl import dgl
from gnnlib.models import DGI, GAE
from gnnlib.train.loop import Batch, fit


class Objective(nn.Module):
    """A model whose output is its own loss: what `fit` minimises."""

    def __init__(self, model: DGI | GAE):
        super().__init__()
        self.model = model

    def forward(self, graph: dgl.DGLGraph, x: Tensor, edge: Tensor | None = None) -> Tensor:
        return self.model.loss(graph, x, edge)


def learn(
    model: DGI | GAE, graph: dgl.DGLGraph, x: Tensor, lr: float, epochs: int, **options: Any
) -> list[dict[str, float]]:
    """Adam on ``model.loss(graph, x)``, one step an epoch; options are those of `fit`."""
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    return fit(Objective(model), lambda: [Batch(graph, x, x[:1])], lambda loss, _: loss, optimizer, epochs, **options)
