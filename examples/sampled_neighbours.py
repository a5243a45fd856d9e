"""
A large graph: sampled neighbours
=================================

A graph that is too large for one step is trained on samples: some nodes, some of their neighbours, and some of the
neighbours of these (GraphSAGE: Hamilton et al. 2017). The outputs of all nodes are then computed layer by layer, with
all neighbours.
"""

import matplotlib.pyplot as plt
import torch
from torch.nn.functional import cross_entropy

import gnnlib as gnn  # before dgl
from gnnlib.datasets import planted
from gnnlib.large import layerwise_inference, sampled_batches

torch.manual_seed(0)
graph, split = planted(4000)  # up to millions of nodes: the graph and the features stay where they are
x, label = graph.ndata["feat"], graph.ndata["label"]

# %%
# **The network** averages over neighbours. The mean over a sample is an unbiased estimate of the mean over all of them.

model = gnn.Stack.build(gnn.SAGEConv, 128, 64, 40, num_layers=2, norm=gnn.BatchNorm, dropout=0.5)

# %%
# **The training.** A batch has a list of message-flow graphs (DGL blocks), one for each layer, the features of the
# sources of the first, and the targets of the destinations of the last.

generator = torch.Generator().manual_seed(0)
optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
accuracy, sizes = [], []
for _ in range(6):
    model.train()
    for batch in sampled_batches(
        graph, x, label, split["train"], fanouts=[10, 10], batch_size=256, generator=generator
    ):
        loss = cross_entropy(model(batch.graph, batch.x), batch.target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        sizes.append([batch.graph[0].num_src_nodes(), batch.graph[1].num_src_nodes(), len(batch.target)])
    correct = layerwise_inference(model, graph, x, batch_size=1000).argmax(1) == label
    accuracy.append([correct[rows].float().mean().item() for rows in split.values()])
print(f"test accuracy {accuracy[-1][2]:.3f}")

# %%
# **What a step holds**: its nodes. The dotted line is the number of nodes of the graph.

_, axes = plt.subplots(1, 2, figsize=(8, 3.5), layout="constrained")
axes[0].plot(range(1, 7), accuracy, label=list(split))
axes[0].set(xlabel="epoch", ylabel="accuracy")
axes[0].legend()
axes[1].boxplot(list(zip(*sizes, strict=True)), tick_labels=["2 hops", "1 hop", "targets"])
axes[1].axhline(graph.num_nodes(), color="grey", linestyle=":")
axes[1].set(ylabel="nodes in a step", yscale="log")
plt.show()
