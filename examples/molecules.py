"""
Molecules: regression with edge features
========================================

A graph is a molecule, a node is an atom, and an edge is a bond. The target is a number per molecule. The bonds have
features, so the layer must take edge features: ``GINEConv`` (Hu et al. 2020). A second network without edge features
shows how much the bonds improve the prediction.

The molecules are generated. To use your own molecules, replace ``random_molecule``.
"""

from functools import partial

import matplotlib.pyplot as plt
import torch
from torch.nn.functional import one_hot

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
# **A store** holds many small graphs in flat arrays. Its labels are floating-point numbers, so the task is a
# regression.

graphs, targets = zip(*(random_molecule() for _ in range(600)), strict=True)
store = gnn.GraphStore(graphs, labels=torch.stack(targets))
train, val, test = store.split((0.7, 0.15, 0.15), seed=0)

# %%
# **Two networks.** Both sum over the atoms, because the target is a sum. ``edge`` names the features that go to each
# layer.

layers = {"bonds": (partial(gnn.GINEConv, edge_feats=3), "bond"), "no bonds": (gnn.GINConv, None)}
histories, models = {}, {}
for name, (conv, edge) in layers.items():
    models[name] = model = gnn.Stack.build(
        conv, 3, 32, 1, num_layers=3, norm=gnn.BatchNorm, encoder=True, readout=gnn.SumReadout
    )
    batches = train.loader(batch_size=50, shuffle=True)
    schedule = partial(torch.optim.lr_scheduler.CosineAnnealingLR, T_max=20)
    histories[name] = gnn.fit(model, batches, val=val, epochs=20, scheduler=schedule, feature="atom", edge=edge)
    result = gnn.evaluate(model, test, feature="atom", edge=edge)
    print(f"{name}: mean absolute error {result['mae']:.2f}, R2 {result['r2']:.2f}")

# %%
# **The result** is the error by epoch, and the predictions of the network with bonds.

_, axes = plt.subplots(1, 2, figsize=(8, 3.5), layout="constrained")
for name, history in histories.items():
    axes[0].plot([record["val_mae"] for record in history], label=name)
axes[0].set(xlabel="epoch", ylabel="mean absolute error, validation", yscale="log")
axes[0].legend()
axes[1].scatter(test.labels, gnn.predict(models["bonds"], list(test), "atom", edge="bond").squeeze(1), s=10)
axes[1].axline((0, 0), slope=1, color="grey", linewidth=0.8)
axes[1].set(xlabel="target", ylabel="prediction")
plt.show()
