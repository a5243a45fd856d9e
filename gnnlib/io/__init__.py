"""Saving and loading models."""

from gnnlib.io.images import load_recipe, predict_images
from gnnlib.io.save import (
    about_model,
    load_model,
    save_model,
)

__all__ = [
    "about_model",
    "load_model",
    "load_recipe",
    "predict_images",
    "save_model",
]
