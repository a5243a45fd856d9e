"""Predictions for pictures by a saved model, through the recipe that was saved with it."""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gnnlib._utils.calls import names_checked
from gnnlib.images import image_folder
from gnnlib.images._image import Image, is_image
from gnnlib.images.recipes import Recipe
from gnnlib.io.recipe import rebuild_recipe
from gnnlib.io.save import CONFIG, load_model, read_config
from gnnlib.io.structure import Named
from gnnlib.nn._arguments import integer
from gnnlib.train import predict

__all__ = ["load_recipe", "predict_images"]

Folder = str | os.PathLike[str]


@names_checked()
def load_recipe(folder: Folder, *, safe_globals: Iterable[Named] = ()) -> Recipe:
    """The recipe that `save_model` saved with a model.

    Args:
        folder: of the model
        safe_globals: the functions of the caller that the recipe has; all others are refused

    Returns:
        the recipe

    Raises:
        FileNotFoundError: if the folder holds no model
        ValueError: if it holds no recipe, or one with a function that is not among ``safe_globals``
    """
    spec, path = read_config(folder).get("recipe"), os.path.join(folder, CONFIG)
    if spec is None:
        raise ValueError(f"{path}: expected a model that was saved with save_model(recipe=...), got one without")
    try:
        return rebuild_recipe(spec, safe_globals)
    except Exception as error:  # a recipe that was changed may fail anywhere
        raise ValueError(f"{path}: {error}") from error


@names_checked()
def predict_images(
    folder: Folder,
    photos: Sequence[Image] | Image,
    *,
    edge: str | None = None,
    batch_size: int = 256,
    device: torch.device | str = "cpu",
    safe_globals: Iterable[Named] = (),
) -> Tensor:
    """The outputs of a saved model for pictures, through the recipe that was saved with it.

    Args:
        folder: of a model that was saved with ``save_model(model, folder, recipe=...)``
        photos: pictures, each an array, a tensor, a PIL image or a path; an :func:`~gnnlib.images.image_folder`; the
            path of a folder, for all pictures in it in the order of ``image_folder``; or one picture, which an array
            of shape (H, W), (H, W, 1) or (H, W, 3) is
        edge: the edge features are ``graph.edata[edge]``, such as "weight"; None: the model gets none
        batch_size: pictures per batch; those of one batch are in memory at a time
        device: of the model
        safe_globals: classes and functions of the caller that the model and the recipe have; all others are refused

    Returns:
        (G, \\*), a row per picture, or (N, \\*), a row per node, if the model has no readout; on the CPU

    Raises:
        FileNotFoundError: if the folder holds no model, or a picture does not exist
        ValueError: if the model has no recipe, or as `load_model`
        ValueError: if a picture cannot be read, or has another number of channels, with its number; if batch_size is
            below 1

    Example:
        >>> import tempfile
        >>> import numpy as np
        >>> from gnnlib import GCNConv, Stack, predict_images, readout_mean, save_model
        >>> from gnnlib.images import recipes
        >>> model = Stack.build(GCNConv, 3, 16, 10, num_layers=2, readout=readout_mean)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save_model(model, folder, recipe=recipes.avelar)
        ...     predict_images(folder, np.zeros((5, 28, 28))).shape
        torch.Size([5, 10])
    """
    functions, batch_size = list(safe_globals), integer("predict_images", "batch_size", batch_size)
    model, recipe = load_model(folder, device, safe_globals=functions), load_recipe(folder, safe_globals=functions)
    pictures = _pictures(photos)
    if not len(pictures):
        raise ValueError("predict_images: expected one picture or more, got none")
    outputs = []
    for first in range(0, len(pictures), batch_size):
        graphs = [_graph(recipe, pictures, number) for number in range(first, min(first + batch_size, len(pictures)))]
        outputs.append(_outputs(model, graphs, first, edge=edge, batch_size=batch_size))
    return torch.cat(outputs)


def _outputs(model: Any, graphs: list[Any], first: int, **options: Any) -> Tensor:
    """The outputs for the graphs of pictures with the numbers from ``first`` on."""
    widths = [graph.ndata["feat"].shape[1] for graph in graphs]
    other = next((i for i, width in enumerate(widths) if width != widths[0]), None)
    if other is not None:
        raise ValueError(
            f"picture {first + other}: expected as many channels as picture {first}, whose nodes have {widths[0]} "
            f"features, got nodes with {widths[other]}; a recipe with channels=1 or channels=3 converts pictures"
        )
    try:
        return predict(model, graphs, **options)
    except (ValueError, TypeError) as error:
        raise type(error)(
            "predict_images: expected grey or colour pictures like those of the training, or a recipe with channels=, "
            f"got {widths[0]} features per node; {error}"
        ) from error


def _pictures(photos: Any) -> Sequence[Image]:
    if isinstance(photos, (str, os.PathLike)):
        return image_folder(photos) if Path(photos).expanduser().is_dir() else [photos]
    return [photos] if is_image(photos) and _is_one(photos) else photos


def _is_one(image: Any) -> bool:
    """Whether an image of PIL, or an array, is one picture, (H, W), (H, W, 1) or (H, W, 3), and not several."""
    return hasattr(image, "getbands") or image.ndim == 2 or (image.ndim == 3 and image.shape[2] in (1, 3))


def _graph(recipe: Recipe, pictures: Sequence[Image], number: int) -> Any:
    try:
        return recipe(pictures[number])
    except (ValueError, TypeError) as error:
        raise type(error)(f"picture {number}: {error}") from error
