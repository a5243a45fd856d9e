"""
A large graph: sampled neighbours
=================================

If a graph is too large for one training step, each step uses a sample: some nodes, some of their neighbours, and some
neighbours of these neighbours (GraphSAGE: Hamilton et al. 2017). After the training, the outputs of all nodes are
computed layer by layer, with all neighbours.
"""

import matplotlib.pyplot as plt
import torch

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
# **The training.** A batch has a list of message-flow graphs (DGL blocks), one for each layer. It also has the features
# of the source nodes of the first block, and the targets of the destination nodes of the last block. ``fit`` calls the
# function in each epoch.

generator = torch.Generator().manual_seed(0)
sizes = []


def batches():
    options = dict(fanouts=[10, 10], batch_size=256, generator=generator)
    for batch in sampled_batches(graph, x, label, split["train"], **options):
        sizes.append([batch.graph[0].num_src_nodes(), batch.graph[1].num_src_nodes(), len(batch.target)])
        yield batch


def measure():
    correct = layerwise_inference(model, graph, x, batch_size=1000).argmax(1) == label
    return {part: correct[rows].float().mean().item() for part, rows in split.items()}


history = gnn.fit(model, batches, epochs=6, measure=measure, generators=[generator])
print(f"test accuracy {history[-1]['test']:.3f}")

# %%
# **The picture** shows the number of nodes in each step. The dotted line is the number of nodes of the graph.

_, axes = plt.subplots(1, 2, figsize=(8, 3.5), layout="constrained")
for part in split:
    axes[0].plot([record["epoch"] for record in history], [record[part] for record in history], label=part)
axes[0].set(xlabel="epoch", ylabel="accuracy")
axes[0].legend()
axes[1].boxplot(list(zip(*sizes, strict=True)))
axes[1].set_xticks([1, 2, 3], ["2 hops", "1 hop", "targets"])
axes[1].axhline(graph.num_nodes(), color="grey", linestyle=":")
axes[1].set(ylabel="nodes in a step", yscale="log")
plt.show()
