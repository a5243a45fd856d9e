"""
Your own photographs as superpixel graphs
=========================================

The photographs are in one folder per class. This example converts each photograph to a graph. A node is a superpixel,
which is a region of similar pixels. Its features are the mean and deviation of the colour, the shape and the position.
A network classifies the graphs. It is saved with the recipe of the conversion, so that it predicts new photographs.

The photographs are crops of six pictures of scikit-image. To use your own photographs, replace ``folder``.
"""

import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from PIL import Image
from skimage import data

import gnnlib as gnn  # before dgl
from gnnlib.images import SLIC, Touching, image_folder, images_to_store
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
# **Read the folder.** The name of a folder is the class of its photographs. They are read one at a time.

photos = image_folder(folder / "photographs")
print(len(photos), "photographs of", photos.classes)

# %%
# **Convert.** A recipe describes the conversion of an image to a graph. ``images_to_store`` writes a store of graphs to
# a folder. A second run reads this folder, and a run that was killed continues.

recipe = Recipe(SLIC(40, compactness=10.0), Touching(), features=("mean", "std", "eccentricity", "place"))
store = images_to_store(photos, recipe, folder / "graphs", workers=0)
train, test = store.split((0.75, 0.25), seed=0, stratify=True)

# %%
# **Train.** ``Standardize`` subtracts the mean of the training graphs and divides by their deviation.

width = store[0].ndata["feat"].shape[1]
network = gnn.Stack.build(
    gnn.SAGEConv, width, 32, len(photos.classes), num_layers=3, norm=gnn.BatchNorm, readout=gnn.MeanMaxReadout
)
model = gnn.Standardize.fit(network, train)
history = gnn.fit(model, train.loader(batch_size=15, shuffle=True), epochs=15)
result = gnn.evaluate(model, test)
print(f"test accuracy {result['accuracy']:.2f}")

# %%
# **Save the model with its recipe**, and predict a photograph from its file.

gnn.save_model(model, folder / "model", recipe=recipe, about={"classes": photos.classes})
scores = gnn.predict_images(folder / "model", photos.paths[:1])
print(photos.paths[0].name, "of the class", photos.classes[0], "is predicted as", photos.classes[scores.argmax()])

# %%
# **The result** shows a photograph, its graph, and the confusion matrix. A row is a true class, and a column is a
# predicted class.

_, axes = plt.subplots(1, 3, figsize=(9, 3), layout="constrained")
graph = recipe(photos[0])
show_regions(photos[0], graph, axes[0])
show_graph(graph, photos[0], ax=axes[1])
axes[2].imshow(result.confusion.numpy(), cmap="Blues")
axes[2].set(xticks=range(4), yticks=range(4), yticklabels=photos.classes, xlabel="prediction")
plt.show()
temporary.cleanup()
