"""Attributions of the layers: the ``attributions.npz`` beside each result, drawn over the sample graphs."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from gnnlib.benchmarks.report import plots
from gnnlib.benchmarks.report.reading import Result
from gnnlib.benchmarks.report.samples import Sample, read
from gnnlib.benchmarks.report.templates import Picture

Attributions = dict[str, np.ndarray]  # "saliency" (n,), perhaps "attention" (e,)


def load(run: Path, samples: Sequence[Sample]) -> tuple[dict[str, list[Attributions]], list[str]]:
    """The attributions of each layer that has any, and the problems of damaged files."""
    maps, problems = {}, []
    for path in sorted(run.glob("*/attributions.npz")):
        arrays, flaws = read(path)
        try:
            attributions = [_check(arrays, sample) for sample in samples] if arrays else []
        except (KeyError, ValueError) as error:
            attributions, flaws = [], [f"{path.name}: left out: {error}"]
        if attributions:
            maps[path.parent.name] = attributions
        problems += [f"{path.parent.name}/{flaw}" for flaw in flaws]
    return maps, problems


def pictures(
    folder: Path, results: Sequence[Result], samples: Sequence[Sample], maps: dict[str, list[Attributions]]
) -> list[dict[str, Any]]:
    """For each layer a title and a picture of each sample, and all of a layer as a file in the folder."""
    groups = []
    for number, result in enumerate(result for result in results if result["layer"] in maps):
        attributions, title = maps[result["layer"]], result["title"]
        plots.save(plots.attributions(samples, attributions), folder / f"attributions-{number}.png", background="black")
        suffix = ", attention as lines" if "attention" in attributions[0] else ""
        drawn = []
        for sample, one in zip(samples, attributions, strict=True):
            image = plots.data_uri(plots.attributions([sample], [one], width=2.2), background="black")
            name = sample["title"].partition(":")[0]
            drawn.append(Picture(image, f"attributions of {title} in {name}", name))
        groups.append({"title": title + suffix, "pictures": drawn})
    return groups


def _check(arrays: dict[str, np.ndarray], sample: Sample) -> Attributions:
    """The attributions at one sample.

    Raises:
        KeyError: if an array is missing
        ValueError: if an array does not fit the sample
    """
    i = sample["number"]
    attributions = {"saliency": arrays[f"saliency_{i}"]}
    if f"attention_{i}" in arrays:
        attributions["attention"] = arrays[f"attention_{i}"]
    if sample["label_map"] is None:
        raise ValueError(f"sample {i} has no label map")
    for (name, values), size in zip(attributions.items(), (len(sample["pos"]), len(sample["src"]))):
        if values.shape != (size,) or values.dtype.kind != "f" or not (np.isfinite(values) & (values >= 0)).all():
            raise ValueError(
                f"{name}_{i}: expected ({size},) numbers of at least 0, received {values.dtype} {values.shape}"
            )
    return attributions
