"""Mutations of bytes and of JSON."""

import copy
import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

__all__ = ["damage", "mutated", "nested", "walk"]

NUMBERS = (0, 1, -1, 2, 7, 63, 64, 65, 2**15, 2**31, 2**63, 10**30, 0.5, 1e308, float("nan"), float("inf"))
VALUES = (None, True, "", "x" * 1000, [], {}, [[]], {"a": 1}, "../../etc/passwd", "/etc/passwd", "\ud800", "<b>")


def damage(path: Path, draw: random.Random) -> str:
    """Changes a file as a broken disk or transfer does; returns how."""
    content = path.read_bytes()
    size = len(content)
    kind = draw.choice(["flip", "flip", "flip", "flips", "cut", "zeros", "swap", "repeat", "append", "empty"])
    if kind == "flip" and size:
        content = _flip(content, [draw.randrange(size)], draw)
    elif kind == "flips" and size:
        content = _flip(content, [draw.randrange(size) for _ in range(draw.randint(2, 20))], draw)
    elif kind == "cut" and size:
        content = content[: draw.randrange(size)]
    elif kind in ("zeros", "swap", "repeat") and size > 2:
        first, last = sorted((draw.randrange(size), draw.randrange(size)))
        middle = {"zeros": bytes(last - first), "swap": content[first:last][::-1], "repeat": content[first:last] * 2}
        content = content[:first] + middle[kind] + content[last:]
    elif kind == "append":
        content += draw.randbytes(draw.randint(1, 100))
    else:
        content = b""
    path.write_bytes(content)
    return kind


def _flip(content: bytes, places: Sequence[int], draw: random.Random) -> bytes:
    changed = bytearray(content)
    for place in places:
        changed[place] ^= 1 << draw.randrange(8)
    return bytes(changed)


def mutated(
    value: Any, draw: random.Random, donors: Sequence[Any] = (), names: Sequence[str] = (), texts: Sequence[str] = ()
) -> Any:
    """A copy of JSON in which a few values are replaced, removed, renamed or moved.

    Args:
        value: a dictionary or a list
        draw: the source of randomness
        donors: further values to put in
        names: further keys
        texts: further texts in place of texts
    """
    value = copy.deepcopy(value)
    places = list(walk(value))
    for _ in range(draw.randint(1, 3)):
        box, key = draw.choice(places)
        if (isinstance(box, dict) and key not in box) or (isinstance(box, list) and key >= len(box)):
            continue
        kind = draw.randrange(6)
        if kind == 0:
            box[key] = draw.choice([*NUMBERS, *VALUES, *donors])
        elif kind == 1:
            del box[key]
        elif kind == 2 and isinstance(box, dict):
            box[draw.choice([*box, *names, "", "x"])] = box.pop(key)
        elif kind == 3:
            other, name = draw.choice(places)
            if (isinstance(other, dict) and name in other) or (isinstance(other, list) and name < len(other)):
                box[key] = copy.deepcopy(other[name])
        elif type(box[key]) in (int, float):
            box[key] = draw.choice([*NUMBERS, box[key] + 1, box[key] - 1, -box[key], 2 * box[key]])
        elif isinstance(box[key], str):
            box[key] = draw.choice([*texts, "", box[key] * 2, box[key][1:]])
    return value


def walk(value: Any) -> Iterator[tuple[Any, Any]]:
    """Each container within a value with each of its keys."""
    for key, part in value.items() if isinstance(value, dict) else enumerate(value):
        yield value, key
        if isinstance(part, (dict, list)):
            yield from walk(part)


def nested(depth: int) -> str:
    """JSON of so many lists."""
    return "[" * depth + "]" * depth
