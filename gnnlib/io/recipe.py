"""Recipes from pictures to graphs as JSON: the classes of gnnlib and their numbers.

Functions of the caller are named; whoever reads the recipe passes them again. Nothing is imported.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields, is_dataclass
from functools import partial
from inspect import isfunction
from typing import Any

from gnnlib import images
from gnnlib.images.recipes import Recipe
from gnnlib.io.structure import Named, name_of

__all__ = ["describe_recipe", "rebuild_recipe"]

PARTS: dict[str, Callable[..., Any]] = {
    name_of(part): part
    for part in (
        images.Decay,
        images.MaskSLIC,
        images.Nearest,
        images.SLIC,
        images.Strongest,
        images.Touching,
        images.Within,
        images.segment,
    )
}
"""What a recipe may be made of."""


def describe_recipe(recipe: Recipe) -> dict[str, Any]:
    """A recipe as JSON.

    Raises:
        ValueError: for a part that cannot be saved, such as a function within a function

    Example:
        >>> from gnnlib.images import SLIC, Touching
        >>> from gnnlib.images.recipes import Recipe
        >>> from gnnlib.io.recipe import describe_recipe
        >>> describe_recipe(Recipe(SLIC(75), Touching()))["edges"]
        {'name': 'gnnlib.images.Touching', 'fields': {}}
    """
    if type(recipe) is not Recipe:
        raise ValueError(f"recipe: expected a gnnlib.images.recipes.Recipe, got {recipe!r}")
    return {field.name: _describe(f"recipe.{field.name}", getattr(recipe, field.name)) for field in fields(recipe)}


def _describe(path: str, value: Any) -> Any:
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, (tuple, list)):
        return [_describe(path, item) for item in value]
    if isinstance(value, partial) and not value.args:
        return {"name": _name(path, value.func), "fields": _describe_fields(path, value.keywords)}
    if is_dataclass(value) and not isinstance(value, type):
        values = {field.name: getattr(value, field.name) for field in fields(value) if field.init}
        return {"name": _name(path, type(value)), "fields": _describe_fields(path, values)}
    if isfunction(value):
        return {"name": _name(path, value)}
    raise ValueError(f"{path}: expected functions, their partials with keywords, dataclasses or numbers, got {value!r}")


def _describe_fields(path: str, values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _describe(f"{path}.{name}", value) for name, value in values.items()}


def _name(path: str, thing: Any) -> str:
    try:
        return name_of(thing)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def rebuild_recipe(spec: Any, safe_globals: Iterable[Named] = ()) -> Recipe:
    """The recipe that `describe_recipe` described. Nothing is imported.

    Raises:
        ValueError: for a name that is neither a part of gnnlib's recipes nor among ``safe_globals``
    """
    names = {field.name for field in fields(Recipe)}
    if not isinstance(spec, dict) or spec.keys() != names:
        raise ValueError(f"recipe: expected {', '.join(sorted(names))}, got {spec!r:.200}")
    allowed = PARTS | {name_of(thing): thing for thing in safe_globals}
    values = {name: _rebuild(f"recipe.{name}", value, allowed) for name, value in spec.items()}
    return Recipe(**values | {"features": tuple(values["features"])})


def _rebuild(path: str, spec: Any, allowed: Mapping[str, Callable[..., Any]]) -> Any:
    if isinstance(spec, list):
        return [_rebuild(path, item, allowed) for item in spec]
    if not isinstance(spec, dict):
        return spec
    name, values = str(spec.get("name")), spec.get("fields")
    if name not in allowed:
        last = name.rpartition(".")[2]
        raise ValueError(f"{path}: expected parts of gnnlib.images, got {name}; if you trust it: safe_globals=[{last}]")
    part = allowed[name]
    if values is None:
        return part
    arguments = {key: _rebuild(f"{path}.{key}", value, allowed) for key, value in values.items()}
    if isinstance(part, type) and is_dataclass(part):
        return part(**arguments)
    if not all(value is None or isinstance(value, (bool, int, float)) for value in arguments.values()):
        raise ValueError(f"{path}: expected numbers as keywords of {name}, got {arguments}")
    return partial(part, **arguments)
