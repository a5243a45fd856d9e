"""
A new layer in twenty lines
===========================

A layer computes messages and aggregates them. This example writes and tests one. ``Conv`` checks the arguments,
``aggregate`` computes a reduction over neighbours, and ``gnnlib.testing`` tests the layer on graphs in which layers
often fail.
"""

import matplotlib.pyplot as plt
import torch
from torch.nn.functional import cross_entropy

import gnnlib as gnn  # before dgl
from gnnlib.datasets import planted
from gnnlib.nn.conv import Conv
from gnnlib.testing import GRAPHS, Case, checks

torch.manual_seed(0)


# %%
# **The layer** computes y_v = x_v W_1 + max over u->v of (x_u - x_v) W_2. The second term is the largest difference
# from a neighbour.


class MaxDifferenceConv(Conv):
    def __init__(self, in_feats, out_feats):
        super().__init__(in_feats, out_feats)
        self.self_linear = gnn.Linear(in_feats, out_feats)
        self.linear = gnn.Linear(in_feats, out_feats, bias=False)

    def forward(self, graph, x, edge=None):
        x_src, x_dst = self.src_dst_features(graph, x)
        self.check_edge(graph, edge)
        strongest = gnn.aggregate(graph, self.linear(x_src), reduce="max")
        degree = graph.in_degrees().to(x_dst.device).view(-1, *[1] * (x_dst.dim() - 1))
        return self.self_linear(x_dst) + (strongest - self.linear(x_dst)) * (degree > 0)


# %%
# **The test.** The reference computes the same equation with dense matrices. The checks compare outputs and gradients
# on graphs with isolated nodes, parallel edges and self-loops, and on batches, message-flow graphs (DGL blocks) and
# bipartite graphs.


def reference(conv, dense, x_src, x_dst, edge):
    has_edge = dense.adjacency() > 0
    messages = conv.linear(x_src).unsqueeze(0).masked_fill(~has_edge.unsqueeze(-1), -torch.inf)
    strongest = messages.amax(1) if len(x_src) else conv.linear(x_dst)
    return conv.self_linear(x_dst) + torch.where(has_edge.any(1, keepdim=True), strongest - conv.linear(x_dst), 0)


def isolated(conv, x_dst):
    return conv.self_linear(x_dst)


case = Case("max-difference", lambda: MaxDifferenceConv(5, 3), reference, isolated, needs_dst=True)
for name in ("random", "multi_edge", "self_loops", "batch", "block", "bipartite"):
    checks.equals_reference(case, GRAPHS[name]())
    checks.permutation(case, GRAPHS[name]())
checks.bad_features_are_refused(case)
print("all checks passed")

# %%
# **In a network**, the new layer is used like any other layer.

graph, split = planted(1000)
x, label = graph.ndata["feat"], graph.ndata["label"]
_, ax = plt.subplots(figsize=(5, 3.5), layout="constrained")
for conv in (MaxDifferenceConv, gnn.SAGEConv):
    model = gnn.Stack.build(conv, 128, 32, 40, num_layers=2, norm=gnn.BatchNorm)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    losses = []
    for _ in range(30):
        loss = cross_entropy(model(graph, x)[split["train"]], label[split["train"]])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    ax.plot(losses, label=conv.__name__)
ax.set(xlabel="epoch", ylabel="training loss")
ax.legend()
plt.show()
