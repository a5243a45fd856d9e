"""
A deep network, diagnosed and cured
===================================

A GCN of 32 layers does not learn. ``diagnose`` gives the cause, and a remedy as a line of code.
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
# **The cure** is the line that was printed. An initial residual adds the first hidden features to every layer, with an
# identity mapping (GCNII: Chen et al. 2020). ``encoder=True`` makes the first hidden features.

gcnii = gnn.Stack.build(gnn.GCNConv, 128, 32, 40, num_layers=32, encoder=True, skip=gnn.InitialResidual)
remedy = diagnose(gcnii, graph, x, label, train=split["train"])
print(remedy.verdict)
print(f"test accuracy {train(gcnii):.2f}")

# %%
# **The statistics of the layers.** In the plain network the distance between nodes falls with every layer on the
# graph, and not on the control graph, in which no node has a neighbour. So the averages are the cause, not the weights.

_, axes = plt.subplots(2, 3, figsize=(10, 5), layout="constrained", sharex=True)
for row, result, name in zip(axes, (diagnosis, remedy), ("plain", "initial residual"), strict=True):
    result.plot(row)
    row[0].set_ylabel(name)
plt.show()
