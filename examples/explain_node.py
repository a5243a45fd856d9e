"""
A node explained
================

This example finds the neighbours on which the prediction of a node depends. Saliency (gradient times input) is a number
for each node of the graph, for any model. Attention is a number for each edge, for a GAT.
"""

import matplotlib.pyplot as plt
import networkx as nx
import torch
from torch.nn.functional import cross_entropy

import gnnlib as gnn  # before dgl
from gnnlib.analysis import attention, saliency
from gnnlib.datasets import planted
import dgl

torch.manual_seed(0)
graph, split = planted(1000)
graph = dgl.add_self_loop(graph)
x, label = graph.ndata["feat"], graph.ndata["label"]

# %%
# **The model** is a GAT with four heads. The outputs of the heads are concatenated, so each head has a quarter of the
# width.

model = gnn.Stack.build(lambda i, o: gnn.GATConv(i, o // 4, 4), 128, 32, 40, num_layers=2)
optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
for _ in range(40):
    loss = cross_entropy(model(graph, x)[split["train"]], label[split["train"]])
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
model.eval()

# %%
# **The saliency for one node.** ``saliency`` explains all rows of an output. To explain one node, pass a function that
# returns only the row of this node: ``scores``.

with torch.no_grad():
    correct = model(graph, x).argmax(1) == label
node = next(int(v) for v in split["test"] if correct[v] and 8 <= graph.in_degrees(v) <= 14)


def scores(graph, x):
    return model(graph, x)[[node]]


importance = saliency(scores, graph, x, target=label[[node]])
nearby = dgl.khop_in_subgraph(graph, node, k=2)[0].ndata[dgl.NID]
print(f"{len(nearby)} nodes are within two hops; saliency above 0: {int((importance > 0).sum())}")
in_community = label[nearby] == label[node]
means = importance[nearby][in_community].mean(), importance[nearby][~in_community].mean()
print(f"mean saliency: same community {means[0]:.3f}, others {means[1]:.3f}")

# %%
# **The picture** shows the neighbours of the node. The size of a node is its saliency. The width of an edge is its
# attention in the last layer (mean over heads). The colour is the community.

weight = attention(model, graph, x)[-1].mean(1)
sources, _, edges = graph.in_edges(node, form="all")
picture = nx.Graph()
picture.add_edges_from((int(u), node, {"width": 12 * float(weight[e])}) for u, e in zip(sources, edges) if u != node)
nodes = list(picture)
size = importance[nodes] / importance[nodes].max()
_, ax = plt.subplots(figsize=(5, 5), layout="constrained")
nx.draw_networkx(
    picture, nx.spring_layout(picture, seed=0), ax=ax, nodelist=nodes, node_size=(80 + 900 * size).tolist(),
    node_color=label[nodes].tolist(), cmap="tab20", font_size=8, labels={v: "v" if v == node else "" for v in nodes},
    width=[w for _, _, w in picture.edges(data="width")],
)  # fmt: skip
ax.set_axis_off()
plt.show()
