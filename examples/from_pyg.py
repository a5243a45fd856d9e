"""
A PyG script, moved
===================

PyTorch Geometric (PyG) stores a graph as ``edge_index`` and a batch as a vector. In gnnlib, both are a DGL graph. This
example has a PyG network for graph classification, and the same network in gnnlib with the same weights. The example
needs ``torch_geometric`` (the extra ``peers``) only for the comparison.
"""

import gnnlib as gnn  # before dgl
import dgl
import matplotlib.pyplot as plt
import torch
from torch import nn
from torch_geometric.data import Batch, Data
from torch_geometric.nn import GCNConv, global_mean_pool

torch.manual_seed(0)

# %%
# **Before**, the data and the network are PyG's.

data_list = []
for _ in range(20):
    size = int(torch.randint(5, 30, ()))
    edge_index = torch.randint(size, (2, 3 * size)).unique(dim=1)
    edge_index = edge_index[:, edge_index[0] != edge_index[1]]
    data_list.append(Data(x=torch.randn(size, 8), edge_index=edge_index, y=torch.randint(3, (1,))))


class GCN(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1, self.conv2, self.lin = GCNConv(8, 32), GCNConv(32, 32), nn.Linear(32, 3)

    def forward(self, data):
        h = self.conv1(data.x, data.edge_index).relu()
        h = self.conv2(h, data.edge_index).relu()
        return self.lin(global_mean_pool(h, data.batch))


before, batch = GCN(), Batch.from_data_list(data_list)

# %%
# **The data.** The rows of ``edge_index`` are the sources and the destinations that ``dgl.graph`` takes. PyG's
# ``GCNConv`` adds self-loops in every call. With gnnlib, you add them once, by ``dgl.add_self_loop``.


def to_dgl(data):
    graph = dgl.graph(tuple(data.edge_index), num_nodes=data.num_nodes)
    graph.ndata["feat"] = data.x
    return dgl.add_self_loop(graph)


store = gnn.GraphStore(map(to_dgl, data_list), labels=torch.cat([data.y for data in data_list]))
graph, label = next(iter(store.loader(batch_size=20)))

# %%
# **After**, the graph is the first argument, and ``readout`` takes the place of ``global_mean_pool``. ``degrees="in"``
# selects PyG's normalisation, which counts in-edges at both endpoints. PyG stores the transpose of the weight.

after = gnn.Stack.build(lambda i, o: gnn.GCNConv(i, o, degrees="in"), 8, 32, 3, num_layers=2, readout=gnn.MeanReadout)
print(after)
with torch.no_grad():
    for block, conv in zip(after.blocks, (before.conv1, before.conv2), strict=True):
        block.conv.weight.copy_(conv.lin.weight.T)
        block.conv.bias.copy_(conv.bias)
    after.head[-1].load_state_dict(before.lin.state_dict())
    expected, output = before(batch), after(graph, graph.ndata["feat"])
print(f"largest difference {(expected - output).abs().max():.1e}")

# %%
# **The picture** compares the three outputs for each of the twenty graphs. Equal outputs are on the diagonal.

_, ax = plt.subplots(figsize=(4, 4), layout="constrained")
ax.scatter(expected, output, s=12)
ax.axline((0, 0), slope=1, color="grey", linewidth=0.8)
ax.set(xlabel="PyG", ylabel="gnnlib")
plt.show()
