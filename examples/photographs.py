"""
Your own photographs as superpixel graphs
=========================================

A folder per class holds the photographs. Each photograph becomes a graph: a node is a superpixel, a region of similar
pixels, and its features are mean colour, deviation and place. A network classifies the graphs.

The photographs are crops of six pictures of scikit-image. Replace ``folder`` by yours.
"""

import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from PIL import Image
from skimage import data
from torch.nn.functional import cross_entropy

import gnnlib as gnn  # before dgl
from gnnlib.images import SLIC, Touching, images_to_store, superpixel_graph
from gnnlib.images.recipes import Recipe
from gnnlib.viz import show_graph, show_regions

torch.manual_seed(0)
rng = np.random.default_rng(0)
temporary = tempfile.TemporaryDirectory()
folder = Path(temporary.name)
for name in ("astronaut", "chelsea", "coffee", "rocket"):
    picture = getattr(data, name)()
    (folder / "photographs" / name).mkdir(parents=True)
    for i in range(20):
        row, column = (rng.integers(0, side - 128) for side in picture.shape[:2])
        crop = Image.fromarray(picture[row : row + 128, column : column + 128])
        crop.resize((64, 64)).save(folder / "photographs" / name / f"{i:02}.jpg")

# %%
# **Read the folder.** The name of a folder is the class of its photographs.

paths = sorted((folder / "photographs").glob("*/*.jpg"))
classes = sorted({path.parent.name for path in paths})
images = [np.asarray(Image.open(path).convert("RGB")) for path in paths]
labels = torch.tensor([classes.index(path.parent.name) for path in paths])

# %%
# **Convert.** A recipe says how an image becomes a graph. The store is written to a folder: a second run reads it, and
# a run that was killed continues.

recipe = Recipe(SLIC(40, compactness=10.0), Touching(), features=("mean", "std", "place"))
store = images_to_store(images, recipe, folder / "graphs", labels=labels, workers=0)
order = torch.randperm(len(store))
train, test = store.select(order[:60]), store.select(order[60:])
print(len(store), "graphs; the first has", store[0].num_nodes(), "nodes and features", store[0].ndata["feat"].shape[1])

# %%
# **Train** with the mean and the maximum over the superpixels of each photograph.

width = store[0].ndata["feat"].shape[1]
model = gnn.Stack.build(
    gnn.SAGEConv, width, 32, len(classes), num_layers=3, norm=gnn.BatchNorm, readout=gnn.MeanMaxReadout
)
optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
for _ in range(15):
    model.train()
    for graph, label in train.loader(batch_size=15, shuffle=True):
        loss = cross_entropy(model(graph, graph.ndata["feat"]), label)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

# %%
# **Test**: the confusion matrix counts the photographs of each class by the prediction.

guess = gnn.predict(model, list(test)).argmax(1)
confusion = torch.zeros(len(classes), len(classes), dtype=torch.int64)
confusion.index_put_((test.labels, guess), torch.ones(len(guess), dtype=torch.int64), accumulate=True)
print(f"test accuracy {(guess == test.labels).float().mean():.2f}", confusion.tolist())

_, axes = plt.subplots(1, 3, figsize=(9, 3), layout="constrained")
graph = superpixel_graph(images[0], num_segments=40, edges=Touching())
show_regions(images[0], graph, axes[0])
show_graph(graph, images[0], ax=axes[1])
axes[2].imshow(confusion.numpy(), cmap="Blues")
axes[2].set(xticks=range(4), yticks=range(4), yticklabels=classes, xlabel="prediction")
plt.show()
temporary.cleanup()
