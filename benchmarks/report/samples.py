"""Sample graphs: what ``samples.npz`` holds, and the page's section of it."""

from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.report import plots
from benchmarks.report.reading import clean

Sample = dict[str, Any]


def load(path: Path) -> tuple[list[Sample], list[str]]:
    """The graphs in the file, each with its number, image, label map (or None), pos, src, dst and title, and what was
    wrong with others."""
    arrays, flaws = read(path)
    samples = []
    for i in sorted(int(name.removeprefix("image_")) for name in arrays if name.startswith("image_")):
        try:
            one = {key: arrays[f"{key}_{i}"] for key in ("image", "pos", "src", "dst", "title")}
            samples.append({"number": i, "label_map": None} | _check(one) | _label_map(arrays, i, len(one["pos"])))
        except (KeyError, ValueError) as error:
            reason = f"no array {error}" if isinstance(error, KeyError) else error
            flaws.append(f"{path.name}: sample {i} left out: {reason}")
    return samples, flaws


def read(path: Path) -> tuple[dict[str, np.ndarray], list[str]]:
    """The arrays in a file, none where it is not there, and what was wrong with it."""
    if not path.exists():
        return {}, []
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            return dict(archive), []
    except Exception as error:  # a damaged archive raises whatever its format does
        return {}, [f"{path.name}: left out: {error} ({type(error).__name__})"]


def section(folder: Path, samples: Sequence[Sample]) -> str:
    """Each graph over its image, as a picture in the page and a file in the folder."""
    figures = ""
    for i, one in enumerate(samples):
        title = escape(one["title"])
        figure = plots.sample(one["image"], one["pos"], one["src"], one["dst"])
        image = plots.save(figure, folder / f"sample-{i}.png", background="black")
        alt = f"a graph of {len(one['pos'])} nodes and {len(one['src'])} edges over its image: {title}"
        figures += f'<figure><img src="{image}" alt="{alt}"><figcaption>{title}</figcaption></figure>\n'
    if not figures:
        return ""
    return f"""<section><h2>Sample graphs</h2>
<p>Nodes are dots, edges are lines; edges both ways are drawn once, and an edge from a node to itself is not drawn.</p>
<div class="samples">
{figures}</div></section>"""


def _label_map(arrays: dict[str, np.ndarray], i: int, nodes: int) -> Sample:
    """The node of each pixel, which runs of before it was written do not have."""
    label_map = arrays.get(f"label_map_{i}")
    if label_map is None:
        return {}
    if label_map.ndim != 2 or label_map.dtype.kind not in "iu" or label_map.size == 0 or label_map.max() != nodes - 1:
        raise ValueError(
            f"label_map: expected (H, W) node numbers up to {nodes - 1}, received {label_map.dtype} {label_map.shape}"
        )
    return {"label_map": label_map}


def _check(sample: Sample) -> Sample:
    """Raises ValueError where the arrays are no graph over an image."""
    image, pos, src, dst, title = sample.values()
    nodes = f"(e,) node numbers below {len(pos)}"
    rules = [
        ("image", image.ndim in (2, 3), "(H, W) or (H, W, 3) numbers"),
        ("pos", pos.shape == (len(pos), 2) and np.isfinite(pos).all(), "(n, 2) finite numbers"),
        *((key, ((sample[key] >= 0) & (sample[key] < len(pos))).all(), nodes) for key in ("src", "dst")),
        ("dst", dst.shape == src.shape, f"{nodes}, as many as in src"),
    ]
    for name, holds, expected in rules:
        if not holds:
            raise ValueError(f"{name}: expected {expected}, received {sample[name].dtype} {sample[name].shape}")
    return sample | {"title": clean(str(title))}
