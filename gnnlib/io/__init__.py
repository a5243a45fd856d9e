"""Saving and loading models."""

from gnnlib.io.save import (
    about_model,
    load_model,
    predict,
    save_model,
)

__all__ = [
    "about_model",
    "load_model",
    "predict",
    "save_model",
]
