"""
A deep network, diagnosed and cured
===================================

A GCN of 32 layers does not learn. ``diagnose`` returns the cause, and a line of code with a remedy.
"""

import matplotlib.pyplot as plt
import torch
from torch.nn.functional import cross_entropy

import gnnlib as gnn  # before dgl
from gnnlib.analysis import diagnose
from gnnlib.datasets import planted
import dgl

torch.manual_seed(0)
graph, split = planted(1000)
graph = dgl.add_self_loop(graph)
x, label = graph.ndata["feat"], graph.ndata["label"]


def train(model, epochs=30):
    """Test accuracy after training on the whole graph."""
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    for _ in range(epochs):
        loss = cross_entropy(model.train()(graph, x)[split["train"]], label[split["train"]])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        correct = model.eval()(graph, x).argmax(1) == label
    return correct[split["test"]].float().mean().item()


# %%
# **The network that fails.** Before training, all nodes have nearly the same output.

plain = gnn.Stack.build(gnn.GCNConv, 128, 32, 40, num_layers=32)
diagnosis = diagnose(plain, graph, x, label, train=split["train"])
print(diagnosis.verdict, "from layer", diagnosis.layer)
print(diagnosis.advice)
print(f"test accuracy {train(plain):.2f}")

# %%
# **The remedy** is the printed line. ``InitialResidual`` adds the first hidden features to the output of every layer,
# with an identity mapping (GCNII: Chen et al. 2020). ``encoder=True`` adds a linear layer that computes the first
# hidden features.

gcnii = gnn.Stack.build(gnn.GCNConv, 128, 32, 40, num_layers=32, encoder=True, skip=gnn.InitialResidual)
remedy = diagnose(gcnii, graph, x, label, train=split["train"])
print(remedy.verdict)
print(f"test accuracy {train(gcnii):.2f}")

# %%
# **The statistics of the layers.** In the control graph, no node has a neighbour. In the plain network, the distance
# between nodes falls with every layer on the graph, but not on the control graph. The averages over neighbours are
# therefore the cause, and not the weights.

_, axes = plt.subplots(2, 3, figsize=(10, 5), layout="constrained", sharex=True)
for row, result, name in zip(axes, (diagnosis, remedy), ("plain", "initial residual"), strict=True):
    result.plot(row)
    row[0].set_ylabel(name)
plt.show()
