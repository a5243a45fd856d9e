"""
A DGL script, moved
===================

The layers have the mathematics and the state dicts of ``dgl.nn``. This example has a GCN written with DGL, and the same
network in gnnlib with the same weights and the same outputs. The page "Coming from DGL" lists all differences.
"""

import time

import matplotlib.pyplot as plt
import torch
from torch import nn

import gnnlib as gnn  # before dgl
from gnnlib.datasets import planted
import dgl
from dgl.nn import GATConv, GraphConv, SAGEConv

torch.manual_seed(0)
graph, _ = planted(3000)
graph = dgl.add_self_loop(graph)
x = graph.ndata["feat"]

# %%
# **Before**, with DGL, the network is a class with a list of layers and a loop.


class GCN(nn.Module):
    def __init__(self, in_size, hid_size, out_size):
        super().__init__()
        first = GraphConv(in_size, hid_size, activation=torch.relu)
        self.layers = nn.ModuleList([first, GraphConv(hid_size, out_size)])
        self.dropout = nn.Dropout(0.5)

    def forward(self, g, features):
        h = features
        for i, layer in enumerate(self.layers):
            h = h if i == 0 else self.dropout(h)
            h = layer(g, h)
        return h


before = GCN(128, 64, 40).eval()

# %%
# **After**, with gnnlib, activation and dropout are arguments of the stack and not of the layer. Each layer loads the
# state dict of its counterpart.

after = gnn.Stack.build(gnn.GCNConv, 128, 64, 40, num_layers=2, dropout=0.5).eval()
for block, layer in zip(after.blocks, before.layers, strict=True):
    block.conv.load_state_dict(layer.state_dict())
with torch.no_grad():
    print(f"largest difference of the outputs {(before(graph, x) - after(graph, x)).abs().max():.1e}")

# %%
# **Other layers** load the state dicts of their counterparts in the same way. The default of gnnlib's ``SAGEConv`` is
# the mean. The number of heads of ``GATConv`` is the argument ``num_heads``.

pairs = {
    "GCN": (GraphConv(128, 64), gnn.GCNConv(128, 64)),
    "GraphSAGE": (SAGEConv(128, 64, "mean"), gnn.SAGEConv(128, 64)),
    "GAT": (GATConv(128, 16, 4), gnn.GATConv(128, 16, num_heads=4)),
}
milliseconds = {}
for name, (dgl_conv, conv) in pairs.items():
    conv.load_state_dict(dgl_conv.state_dict())
    torch.testing.assert_close(conv(graph, x), dgl_conv(graph, x), rtol=1e-4, atol=1e-4)
    for library, layer in (("dgl.nn", dgl_conv), ("gnnlib", conv)):
        start = time.perf_counter()
        for _ in range(5):
            layer(graph, x).sum().backward()
        milliseconds[name, library] = 200 * (time.perf_counter() - start)

# %%
# **The picture** shows the time of a training step, forward and backward, on a small graph.

_, ax = plt.subplots(figsize=(5, 3), layout="constrained")
for shift, library in ((-0.2, "dgl.nn"), (0.2, "gnnlib")):
    ax.bar([i + shift for i in range(3)], [milliseconds[name, library] for name in pairs], width=0.4, label=library)
ax.set(xticks=range(3), xticklabels=list(pairs), ylabel="milliseconds")
ax.legend()
plt.show()
