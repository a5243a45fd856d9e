"""Workloads on images: conversion of digits and of a photograph to graphs, and batches from a store on disk."""

import tempfile
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from gnnlib._platform.dgl import dgl
from gnnlib.benchmarks.speed.batches import MANY, endless
from gnnlib.benchmarks.speed.layers import pyg
from gnnlib.benchmarks.speed.measure import Case
from gnnlib.datasets import digits
from gnnlib.images import images_to_store, recipes, superpixel_graph

SIDE = 28


def images(count: int) -> np.ndarray:
    """scikit-learn's digits in the size of MNIST's: (count, 28, 28) uint8."""
    small = torch.cat([digits(train)[0] for train in (True, False)])
    large = interpolate(small.unsqueeze(1), (SIDE, SIDE), mode="bilinear").squeeze(1)
    return (255 * large[torch.arange(count) % len(large)]).to(torch.uint8).numpy()


def recipe_case(recipe: recipes.Recipe, count: int) -> Case:
    """Conversion by a recipe; figures are per image."""
    pictures = images(count)
    return Case({"gnnlib": lambda: [recipe.arrays(image) for image in pictures]}, batches=count)


def photograph_case(side: int, num_segments: int) -> Case:
    """Superpixels of a square colour photograph of scikit-image. PyG's graph has no edges."""
    from skimage.data import astronaut
    from skimage.transform import resize

    picture = resize(astronaut(), (side, side)).astype(np.float32)
    outputs = {"gnnlib": lambda: superpixel_graph(picture, num_segments).ndata["feat"]}
    if pyg():
        cut, channels = pyg("transforms").ToSLIC(n_segments=num_segments), torch.from_numpy(picture).permute(2, 0, 1)
        outputs["pyg"] = lambda: cut(channels).x
    return Case(dict(outputs), outputs)


def loader_case(recipe: recipes.Recipe, size: int) -> Case:
    """A batch from a memory-mapped store on disk; the loaders of the other libraries read lists in memory."""
    pictures, order = images(size * MANY), torch.randperm(size * MANY).tolist()
    with tempfile.TemporaryDirectory() as folder:  # mapped files stay on disk while they are mapped
        store = images_to_store(pictures, recipe, folder, workers=0)
    graphs = list(store)
    loaders = {
        "gnnlib": store.loader(size, sampler=order),
        "dgl": dgl.dataloading.GraphDataLoader(graphs, batch_size=size, sampler=order),
    }
    if pyg():
        data = [
            pyg("data").Data(g.ndata["feat"], torch.stack(g.edges()), g.edata["weight"], pos=g.ndata["pos"])
            for g in graphs
        ]
        loaders["pyg"] = pyg("loader").DataLoader(data, batch_size=size, sampler=order)
    return Case(
        {name: partial(next, endless(loader)) for name, loader in loaders.items()},
        {name: partial(_contents, loader) for name, loader in loaders.items()},
    )


def _contents(loader: Any) -> Tensor:
    """The edges and features of the first batch as one vector, for comparison."""
    batch = next(iter(loader))
    if isinstance(batch, dgl.DGLGraph):
        parts = [*batch.edges(), batch.ndata["feat"], batch.edata["weight"]]
    else:
        parts = [*batch.edge_index, batch.x, batch.edge_attr]
    return torch.cat([part.flatten().float() for part in parts])
