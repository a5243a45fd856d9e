"""Saved models: a folder with ``config.json``, the structure, and ``model.safetensors``, the tensors.

A model is saved as it is, not as it was constructed: each module by its class, its attributes and its submodules.
Changes after construction are therefore saved too. Loading executes no code from the folder.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import nn

from gnnlib._utils.calls import names_checked
from gnnlib._utils.documents import is_sealed, read_document, seal
from gnnlib._utils.files import atomic_write
from gnnlib._version import __version__
from gnnlib.images.recipes import Recipe
from gnnlib.io.recipe import describe_recipe
from gnnlib.io.structure import Named, describe, rebuild
from gnnlib.nn._arguments import check_model

__all__ = ["about_model", "load_model", "read_config", "save_model"]

FORMAT = 2
ADVICE = (
    "; format 1 names modules by their old places in the package: train the model again, or load it with the "
    "gnnlib that wrote it and save its state_dict()"
)
CONFIG, WEIGHTS = "config.json", "model.safetensors"
Folder = str | os.PathLike[str]


@names_checked(path="folder=", metadata="about=")
def save_model(
    model: nn.Module, folder: Folder, *, about: Mapping[str, Any] | None = None, recipe: Recipe | None = None
) -> None:
    """Saves a model to a folder, from which `load_model` restores it.

    Any model can be saved whose classes and functions can be imported: a `Stack` with any layer, the models of
    `gnnlib.models`, the networks of `gnnlib.grid.from_torch` and ``torch.nn`` modules. Shared weights stay shared.

    Args:
        model: the model; it is not changed
        folder: is created where it does not exist
        about: metadata that JSON can hold, such as the expected features; `about_model` returns it
        recipe: the `gnnlib.images.recipes.Recipe` of a model of pictures, for `predict_images`; functions of the caller
            in it are saved by name

    Raises:
        TypeError: if ``model`` is no module
        ValueError: for a part that cannot be saved (a lambda, a hook), with its place in the model, and for metadata
            that JSON cannot hold; nothing is written
        OSError: if the folder cannot be written

    Example:
        >>> import tempfile
        >>> import torch
        >>> from gnnlib import GCNConv, Stack, load_model, save_model
        >>> from gnnlib.io import about_model
        >>> import dgl
        >>> model = Stack.build(GCNConv, 8, 16, 3, num_layers=4, dropout=0.5).eval()
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save_model(model, folder, about={"classes": ["a", "b", "c"]})
        ...     loaded = load_model(folder)
        ...     about_model(folder)
        {'classes': ['a', 'b', 'c']}
        >>> g, x = dgl.graph(([0, 1], [1, 0])), torch.ones(2, 8)
        >>> torch.equal(loaded(g, x), model(g, x))
        True
    """
    check_model("save_model", model, "a folder")
    structure, tensors = describe(model)
    weights = safetensors.torch.save(tensors)
    config = {"format": FORMAT, "gnnlib": __version__, "torch": torch.__version__, "about": dict(about or {})}
    if recipe is not None:
        config["recipe"] = describe_recipe(recipe)
    config |= {"model": structure, "weights": hashlib.sha256(weights).hexdigest()}
    try:
        text = json.dumps(seal(config), indent=1)
    except ValueError as error:
        raise ValueError(f"save_model: about: {error}") from error
    folder = Path(folder).expanduser()
    with atomic_write(folder / WEIGHTS) as part:
        part.write_bytes(weights)
        (folder / CONFIG).unlink(missing_ok=True)  # killed here, the folder holds no model, not halves of two
    with atomic_write(folder / CONFIG) as part:
        part.write_text(text + "\n")


@names_checked()
def load_model(folder: Folder, device: torch.device | str = "cpu", *, safe_globals: Iterable[Named] = ()) -> nn.Module:
    """Loads a model that `save_model` saved, in evaluation mode.

    Args:
        folder: of the model
        device: of its tensors
        safe_globals: classes and functions outside gnnlib, ``torch.nn`` and ``dgl.nn.HeteroGraphConv`` that the model
            may use (compare ``torch.serialization.safe_globals``); all others are refused

    Returns:
        the model

    Raises:
        FileNotFoundError: if the folder holds no model
        ValueError: with the file's name, if it is damaged or of another format, names a class or function that is not
            allowed, or the tensors do not fit the structure
    """
    config, path = read_config(folder), Path(folder).expanduser() / WEIGHTS
    if not path.is_file():
        raise FileNotFoundError(f"load_model: expected {path}, which does not exist")
    weights = path.read_bytes()
    if hashlib.sha256(weights).hexdigest() != config.get("weights"):
        raise ValueError(f"{path} is damaged or belongs to another model: expected the checksum in {CONFIG}")
    try:
        tensors = safetensors.torch.load(weights)
    except Exception as error:  # a wrong header raises many types
        raise ValueError(f"{path} is damaged ({error})") from error
    tensors = {name: tensor.to(device) for name, tensor in tensors.items()}
    try:
        return nn.Module.eval(rebuild(config["model"], tensors, safe_globals))
    except Exception as error:  # a structure that was changed may fail anywhere
        raise ValueError(f"{path.with_name(CONFIG)}: {error}") from error


@names_checked()
def about_model(folder: Folder) -> dict[str, Any]:
    """The metadata that `save_model` was given.

    Args:
        folder: of the model

    Returns:
        the metadata; empty if there was none

    Raises:
        FileNotFoundError: if the folder holds no model
        ValueError: if its ``config.json`` is damaged or of another format
    """
    return read_config(folder)["about"]


def read_config(folder: Folder) -> dict[str, Any]:
    """The content of ``config.json``, whose checksum is verified.

    Raises:
        FileNotFoundError: if the folder holds no model
        ValueError: if it is damaged or of another format
    """
    path = Path(folder).expanduser() / CONFIG
    if not path.is_file():
        raise FileNotFoundError(f"load_model: expected a folder with {CONFIG} and {WEIGHTS}, got none in {folder}")
    config = read_document(path)
    if missing := sorted({"format", "about", "model"} - config.keys()):
        raise ValueError(f"{path} is damaged (expected {', '.join(missing)}, got none)")
    number = config["format"]
    if number != FORMAT:
        advice = ADVICE if number == 1 else ""
        raise ValueError(
            f"{path}: expected format {FORMAT}, got {number!r}, written by gnnlib {config.get('gnnlib')}{advice}"
        )
    if not is_sealed(config):
        raise ValueError(f"{path} is damaged: expected the checksum that it holds")
    return config
