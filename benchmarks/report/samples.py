"""Sample graphs: ``samples.npz`` of a run, and its pictures in the page."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from gnnlib.benchmarks.report import plots
from gnnlib.benchmarks.report.reading import clean
from gnnlib.benchmarks.report.templates import Picture

Sample = dict[str, Any]

ROWS = 3  # samples with superpixels at several levels


def load(path: Path) -> tuple[list[Sample], list[str]]:
    """The graphs in a file, each with its number, image, label map (or None), pos, src, dst and title, and the problems
    of others."""
    arrays, flaws = read(path)
    samples = []
    for i in sorted(int(name.removeprefix("image_")) for name in arrays if name.startswith("image_")):
        try:
            sample = {key: arrays[f"{key}_{i}"] for key in ("image", "pos", "src", "dst", "title")}
            label_map = _label_map(arrays, i, len(sample["pos"]))
            samples.append({"number": i, "label_map": None} | _check(sample) | label_map)
        except (KeyError, ValueError) as error:
            reason = f"no array {error}" if isinstance(error, KeyError) else error
            flaws.append(f"{path.name}: sample {i} left out: {reason}")
    return samples, flaws


def read(path: Path) -> tuple[dict[str, np.ndarray], list[str]]:
    """The arrays in a file, none where there is no file, and its problems."""
    if not path.exists():
        return {}, []
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            return dict(archive), []
    except Exception as error:  # a damaged archive raises whatever its format does
        return {}, [f"{path.name}: left out: {error} ({type(error).__name__})"]


def pictures(folder: Path, samples: Sequence[Sample]) -> list[Picture]:
    """Each graph over its image, and each as a file in the folder."""
    drawn = []
    for i, sample in enumerate(samples):
        figure = plots.sample(sample["image"], sample["pos"], sample["src"], sample["dst"])
        image = plots.save(figure, folder / f"sample-{i}.png", background="black")
        size = f"{len(sample['pos'])} nodes and {len(sample['src'])} edges"
        drawn.append(Picture(image, f"a graph of {size} over its image: {sample['title']}", sample["title"]))
    return drawn


def levels(folder: Path, samples: Sequence[Sample]) -> Picture | None:
    """The superpixels of the first samples at several levels, as one picture; None for graphs of pixels."""
    regions = [sample for sample in samples if sample["label_map"] is not None]
    regions = [sample for sample in regions if 0 < len(sample["pos"]) < sample["label_map"].size][:ROWS]
    if not regions:
        return None
    image = plots.save(plots.levels(regions), folder / "levels.png", background="black")
    alt = f"the superpixels of {len(regions)} images, and fewer and fewer of them"
    return Picture(image, alt, ", ".join(sample["title"] for sample in regions))


def _label_map(arrays: dict[str, np.ndarray], i: int, nodes: int) -> Sample:
    """The node of each pixel; older runs have none.

    Raises:
        ValueError: if the array does not fit the image
    """
    label_map, shape = arrays.get(f"label_map_{i}"), arrays[f"image_{i}"].shape[:2]
    if label_map is None:
        return {}
    if (
        label_map.shape != shape
        or label_map.dtype.kind not in "iu"
        or label_map.size == 0
        or label_map.max() != nodes - 1
    ):
        raise ValueError(
            f"label_map: expected {shape} node numbers up to {nodes - 1}, received {label_map.dtype} {label_map.shape}"
        )
    return {"label_map": label_map}


def _check(sample: Sample) -> Sample:
    """The sample with a printable title.

    Raises:
        ValueError: if the arrays are not a graph over an image
    """
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
