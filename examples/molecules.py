"""
Molecules: regression with edge features
========================================

A graph is a molecule, a node an atom, an edge a bond. The target is a number per molecule. The bonds have features, so
the layer takes features of edges: ``GINEConv`` (Hu et al. 2020). A network without them shows what the bonds are worth.

The molecules are generated. Replace ``random_molecule`` by a function that reads yours.
"""

from functools import partial

import matplotlib.pyplot as plt
import torch
from torch.nn.functional import mse_loss, one_hot

import gnnlib as gnn  # before dgl
import dgl

torch.manual_seed(0)
NEGATIVITY = torch.tensor([2.55, 3.04, 3.44])  # Pauling's, of carbon, nitrogen and oxygen


def random_molecule():
    """A tree of 5 to 15 atoms, its bonds in both directions, and the sum over bonds of order times polarity."""
    size = int(torch.randint(5, 16, ()))
    atom = torch.randint(3, (size,))
    parent = torch.cat([torch.randint(i, (1,)) for i in range(1, size)])
    order = torch.randint(1, 4, (size - 1,))  # single, double, triple
    graph = dgl.graph((torch.cat([torch.arange(1, size), parent]), torch.cat([parent, torch.arange(1, size)])))
    graph.ndata["atom"] = one_hot(atom, 3).float()
    graph.edata["bond"] = one_hot(order - 1, 3).float().repeat(2, 1)
    polarity = (NEGATIVITY[atom[1:]] - NEGATIVITY[atom[parent]]).abs()
    return graph, (order * polarity).sum()


# %%
# **A store** holds many small graphs in flat arrays. Its loader yields batches of graphs with their targets.

graphs, targets = zip(*(random_molecule() for _ in range(600)), strict=True)
store = gnn.GraphStore(graphs, labels=torch.stack(targets))
train, test = store.select(range(500)), store.select(range(500, 600))
mean, std = train.labels.mean(), train.labels.std()

# %%
# **Two networks.** Both sum over the atoms, because the target is a sum. ``Stack`` passes the features of the bonds to
# each layer.

layers = {"bonds": partial(gnn.GINEConv, edge_feats=3), "no bonds": gnn.GINConv}
networks = {
    name: gnn.Stack.build(conv, 3, 32, 1, num_layers=3, norm=gnn.BatchNorm, encoder=True, readout=gnn.SumReadout)
    for name, conv in layers.items()
}
loaders = {"train": train.loader(batch_size=50, shuffle=True), "test": test.loader(batch_size=100)}


def predict(name, graph):
    arguments = (graph, graph.ndata["atom"], graph.edata["bond"]) if name == "bonds" else (graph, graph.ndata["atom"])
    return networks[name](*arguments).squeeze(1) * std + mean


errors = {name: [] for name in networks}
for name, model in networks.items():
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(15):
        model.train()
        for graph, target in loaders["train"]:
            loss = mse_loss(predict(name, graph), target)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        model.eval()
        graph, target = next(iter(loaders["test"]))
        with torch.no_grad():
            errors[name].append((predict(name, graph) - target).abs().mean().item())
print({name: round(values[-1], 2) for name, values in errors.items()}, "mean absolute error")

# %%
# **The result**: the error by epoch, and the predictions of the network with bonds.

_, axes = plt.subplots(1, 2, figsize=(8, 3.5), layout="constrained")
for name, values in errors.items():
    axes[0].plot(values, label=name)
axes[0].set(xlabel="epoch", ylabel="mean absolute error")
axes[0].legend()
with torch.no_grad():
    axes[1].scatter(target, predict("bonds", graph), s=10)
axes[1].axline((0, 0), slope=1, color="grey", linewidth=0.8)
axes[1].set(xlabel="target", ylabel="prediction")
plt.show()
