"""
Link prediction: which pairs of nodes are joined
================================================

A graph autoencoder (Kipf and Welling 2016) computes an embedding of each node. The score of a pair of nodes is the
inner product of the two embeddings. Some links are removed before the training and used for the test, with the same
number of negatives, which are pairs without a link.
"""

import matplotlib.pyplot as plt
import torch
from sklearn.metrics import average_precision_score, roc_auc_score

import gnnlib as gnn  # before dgl
from gnnlib.datasets import link_split, planted
from gnnlib.models import GAE, link_scores
import dgl

torch.manual_seed(0)

# %%
# **The split.** The test part has a tenth of the links, and the same number of negatives. Both directions of a test
# link are removed from the training graph.

graph, _ = planted(600)
split = link_split(graph, seed=0)
print(len(split.test.u), "pairs for the test,", int(split.test.linked.sum()), "of them linked")
train = dgl.add_self_loop(split.graph)
x = train.ndata["feat"]

# %%
# **The training.** The loss is over all pairs of nodes, in blocks, and needs no sampled negatives.

model = GAE(gnn.Stack.build(gnn.GCNConv, x.shape[1], 64, 32, num_layers=2))
optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
losses = []
for _ in range(60):
    loss = model.loss(train, x)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    losses.append(loss.item())

# %%
# **The result.** The ROC-AUC is the probability that a link has a higher score than a pair without a link. It cannot
# reach 1 on this graph, because four of ten links join random nodes.

with torch.no_grad():
    scores = link_scores(model(train, x), split.test.u, split.test.v)
linked = split.test.linked.bool()
print(f"ROC-AUC {roc_auc_score(linked, scores):.3f}, average precision {average_precision_score(linked, scores):.3f}")

_, axes = plt.subplots(1, 2, figsize=(8, 3.5), layout="constrained")
axes[0].plot(losses)
axes[0].set(xlabel="epoch", ylabel="loss")
for name, rows in {"linked": linked, "not linked": ~linked}.items():
    axes[1].hist(scores[rows].numpy(), bins=30, alpha=0.6, label=name)
axes[1].set(xlabel="score", ylabel="pairs")
axes[1].legend()
plt.show()
