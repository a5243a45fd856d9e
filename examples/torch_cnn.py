"""
A convolutional network as a graph network
==========================================

A convolution is message passing on a grid. An edge goes from each pixel of the window to the pixel that is computed.
The type of the edge is its position in the window (the tap). ``from_torch`` converts a PyTorch network. The converted
network has the same outputs and gradients, and also takes graphs.
"""

import matplotlib.pyplot as plt
import torch
from torch import nn
from torch.nn.functional import cross_entropy

import gnnlib  # noqa: F401  before dgl
from gnnlib.datasets import digits
from gnnlib.grid import from_torch
from gnnlib.images import pixel_batch, pixel_graph
from gnnlib.viz import show_filters, show_graph
import dgl

torch.manual_seed(0)

# %%
# **A PyTorch network** is trained on scikit-learn's digits of 8 x 8 pixels.

images, labels = digits()
images = images.unsqueeze(1)
net = nn.Sequential(
    nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2),
    nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(32 * 16, 10),
)  # fmt: skip
optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
for order in (torch.randperm(len(images)) for _ in range(3)):
    for rows in order.split(64):
        loss = cross_entropy(net(images[rows]), labels[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
net.eval()

# %%
# **The same network on graphs.** The weights have the same names, so state dicts load in both directions. A batch of
# images is a batch of graphs, with a row of ``x`` for each pixel.

converted = from_torch(net, (1, 8, 8))
test_images, test_labels = digits(train=False)
graph, x = pixel_batch((8, 8), len(test_images)), test_images.flatten().unsqueeze(1)
with torch.no_grad():
    scores = converted(graph, x)
    difference = (scores - net(test_images.unsqueeze(1))).abs().max()
print(f"test accuracy {(scores.argmax(1) == test_labels).float().mean():.3f}, largest difference {difference:.1e}")

# %%
# **Images without some pixels.** Every fifth pixel is removed from each image. The original network cannot take such an
# image, and the graph network can.

holes = pixel_graph((8, 8))
holes.remove_nodes(torch.arange(0, 64, 5))
rows = (torch.arange(64) % 5 != 0).repeat(len(test_images))
with torch.no_grad():
    scores = converted(dgl.batch([holes] * len(test_images)), x[rows])
print(f"test accuracy {(scores.argmax(1) == test_labels).float().mean():.3f} without every fifth pixel")

# %%
# **The picture** shows the filters of the first layer, and a digit with the graph of the remaining pixels.

figure, axes = plt.subplots(1, 6, figsize=(10, 2), layout="constrained")
show_filters(net[0].weight.detach()[:5, 0], axes=axes[:5])
show_graph(holes, test_images[3], ax=axes[5])
plt.show()
