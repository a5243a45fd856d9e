"""Attributions of the layers: the ``attributions.npz`` beside each result, drawn over the sample graphs."""

from collections.abc import Sequence
from html import escape
from pathlib import Path

import numpy as np

from gnnlib.benchmarks.report import plots
from gnnlib.benchmarks.report.reading import Result
from gnnlib.benchmarks.report.samples import Sample, read

Attributions = dict[str, np.ndarray]  # "saliency" (n,), perhaps "attention" (e,)


def load(run: Path, samples: Sequence[Sample]) -> tuple[dict[str, list[Attributions]], list[str]]:
    """Each layer's attributions at the samples, and what was wrong with others; layers without any are left out."""
    found, flaws = {}, []
    for path in sorted(run.glob("*/attributions.npz")):
        arrays, problems = read(path)
        try:
            attributions = [_check(arrays, one) for one in samples] if arrays else []
        except (KeyError, ValueError) as error:
            attributions, problems = [], [f"{path.name}: left out: {error}"]
        if attributions:
            found[path.parent.name] = attributions
        flaws += [f"{path.parent.name}/{problem}" for problem in problems]
    return found, flaws


def section(
    folder: Path, results: Sequence[Result], samples: Sequence[Sample], seen: dict[str, list[Attributions]]
) -> str:
    """A row of pictures for each layer, in the page and as a file in the folder."""
    figures = ""
    for number, result in enumerate(result for result in results if result["layer"] in seen):
        attributions, title = seen[result["layer"]], escape(result["title"])
        figure = plots.attributions(samples, attributions)
        image = plots.save(figure, folder / f"attributions-{number}.png", background="black")
        also = ", attention as lines" if "attention" in attributions[0] else ""
        alt = f"attributions of {title} in {len(samples)} images"
        figures += f'<figure><img src="{image}" alt="{alt}"><figcaption>{title}{also}</figcaption></figure>\n'
    if not figures:
        return ""
    return f"""<section><h2>What the layers look at</h2>
<p>The same images; the brighter, the more a pixel or region counts for the score of the true class: the gradient times
the input, of the first seed. Lines are as wide as the last layer's attention, the mean over its heads, is above an even
share.</p>
<div class="attributions">
{figures}</div></section>"""


def _check(arrays: dict[str, np.ndarray], sample: Sample) -> Attributions:
    """Raises KeyError or ValueError where the arrays do not fit the sample."""
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
