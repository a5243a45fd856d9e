"""
Node classification: GCN on Cora
================================

This example trains a graph convolutional network (Kipf and Welling 2017) on the citation network Cora. A node is a
paper, and its features are the words of the paper. Of 2708 papers, 140 have a label for training. If the files of Cora
are absent, the example uses a generated graph. It does not download anything.
"""

import os
from pathlib import Path

import matplotlib.pyplot as plt
import torch

import gnnlib as gnn  # before dgl
from gnnlib.datasets import planetoid, planted, row_normalise
from gnnlib.train import Batch
import dgl

torch.manual_seed(0)

# %%
# **The data.** ``planetoid("cora")`` without a folder would download the files. The masks are of the public split.

folder = Path(os.environ.get("GNNLIB_DATA", "data"))
if (folder / "planetoid" / "ind.cora.graph").exists():
    graph = planetoid("cora", folder)
    parts = {part: graph.ndata[f"{part}_mask"] for part in ("train", "val", "test")}
else:
    graph, split = planted(2708)
    parts = {"train": split["train"], "val": split["valid"], "test": split["test"]}
label = graph.ndata["label"]
x = row_normalise(graph.ndata["feat"]) if "train_mask" in graph.ndata else graph.ndata["feat"]
graph = dgl.add_self_loop(graph)
print(graph.num_nodes(), "nodes,", graph.num_edges(), "edges,", x.shape[1], "features")

# %%
# **The network** has two layers, with dropout on the input of each layer.

classes = int(label.max()) + 1
model = gnn.Stack.build(gnn.GCNConv, x.shape[1], 64, classes, num_layers=2, dropout=0.5)
print(model)

# %%
# **The training.** The whole graph is one batch. The loss is a mean over the training nodes only. At the end, ``fit``
# restores the weights of the epoch with the lowest validation loss.

graph.ndata["feat"] = x
train, val, test = (Batch.from_graph(graph, rows=rows) for rows in parts.values())
optimizer = torch.optim.Adam(model.parameters(), lr=0.01, weight_decay=5e-4)
history = gnn.fit(model, train, optimizer=optimizer, val=val, epochs=60)
result = gnn.evaluate(model, test)
print(f"test accuracy {result['accuracy']:.3f}, macro F1 {result['f1']:.3f}")

# %%
# **The result.** The left plot shows loss and accuracy by epoch. The right plot shows the outputs of all nodes in two
# dimensions, with a colour for each class.

_, axes = plt.subplots(1, 2, figsize=(9, 3.5), layout="constrained")
axes[0].plot([record["loss"] for record in history], label="training loss")
axes[0].plot([record["val_loss"] for record in history], label="validation loss")
axes[0].plot([record["val_accuracy"] for record in history], label="validation accuracy")
axes[0].set(xlabel="epoch")
axes[0].legend()
y = gnn.predict(model, graph)
plane = (y - y.mean(0)) @ torch.pca_lowrank(y, 2)[2]
axes[1].scatter(*plane.T, c=label, s=4, cmap="tab20")
axes[1].set_axis_off()
plt.show()
