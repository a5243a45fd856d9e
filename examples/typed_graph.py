"""
A typed graph: authors, papers and venues
=========================================

A typed graph (heterogeneous graph) has several types of nodes and edges. ``HeteroConv`` holds one layer for each type
of edge and adds the outputs of these layers at each node.
"""

import matplotlib.pyplot as plt
import torch
from torch import nn
from torch.nn.functional import cross_entropy

import gnnlib as gnn  # before dgl
import dgl

torch.manual_seed(0)

# %%
# **The graph.** Papers have a field and noisy features. Authors write papers in their own field, and most papers of a
# venue have the same field. The task is to predict the field of a paper.

PAPERS, AUTHORS, VENUES, FIELDS = 600, 200, 12, 4
field, author_field = torch.randint(FIELDS, (PAPERS,)), torch.randint(FIELDS, (AUTHORS,))
writes = ((author_field[:, None] == field) & (torch.rand(AUTHORS, PAPERS) < 0.02)).nonzero().T
of_its_field = field + FIELDS * torch.randint(VENUES // FIELDS, (PAPERS,))
prints = torch.where(torch.rand(PAPERS) < 0.7, of_its_field, torch.randint(VENUES, (PAPERS,)))
papers = torch.arange(PAPERS)
graph = dgl.heterograph(
    {
        ("author", "writes", "paper"): tuple(writes),
        ("paper", "written_by", "author"): tuple(writes.flip(0)),
        ("venue", "prints", "paper"): (prints, papers),
        ("paper", "printed_in", "venue"): (papers, prints),
    },
    {"author": AUTHORS, "paper": PAPERS, "venue": VENUES},
)
x = nn.functional.one_hot(field, FIELDS) + 1.5 * torch.randn(PAPERS, FIELDS)
print(graph)


# %%
# **The network.** Authors and venues have no features, so the network uses an embedding instead. A layer between two
# types takes a pair of features, of the source nodes and of the destination nodes. If these have different widths,
# ``in_feats`` is a pair too.


class TypedSAGE(nn.Module):
    def __init__(self, hidden):
        super().__init__()
        self.author, self.venue = nn.Embedding(AUTHORS, hidden), nn.Embedding(VENUES, hidden)
        self.paper = gnn.Linear(FIELDS, hidden)
        self.layers = nn.ModuleList(
            gnn.HeteroConv({etype: gnn.SAGEConv(hidden, hidden) for etype in graph.etypes}) for _ in range(2)
        )
        self.head = gnn.Linear(hidden, FIELDS)

    def forward(self, graph, x):
        h = {"author": self.author.weight, "paper": self.paper(x), "venue": self.venue.weight}
        for layer in self.layers:
            h = {ntype: y.relu() for ntype, y in layer(graph, h).items()}
        return self.head(h["paper"])


train, test = torch.randperm(PAPERS).split([200, 400])
perceptron = nn.Sequential(nn.Linear(FIELDS, 32), nn.ReLU(), nn.Linear(32, FIELDS))
accuracy = {}
for name, model in {"typed graph": TypedSAGE(32), "papers alone": perceptron}.items():
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    curve = accuracy[name] = []
    for _ in range(40):
        y = model(graph, x) if name == "typed graph" else model(x)
        loss = cross_entropy(y[train], field[train])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        curve.append((y.argmax(1) == field)[test].float().mean().item())
print({name: round(curve[-1], 3) for name, curve in accuracy.items()})

# %%
# **The result** is the test accuracy by epoch, with and without the graph.

_, ax = plt.subplots(figsize=(5, 3.5), layout="constrained")
for name, curve in accuracy.items():
    ax.plot(curve, label=name)
ax.set(xlabel="epoch", ylabel="test accuracy")
ax.legend()
plt.show()
