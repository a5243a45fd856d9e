"""The style of the plots: settings of matplotlib, the colour, dashes and marker of each layer, and figures as files.

The colours are those of Okabe and Ito (2008) and Tol (2021), moved by a search until any two differ by 20 units of
CIELAB or more for each of three kinds of colour blindness.
"""

import base64
import io
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib
from markupsafe import Markup
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from gnnlib._utils.files import atomic_write
from gnnlib.benchmarks.report.reading import Result

LIGHT = "#3263c6 #b25004 #359954 #c29fbe #dda000 #14b5ff #700069 #2e00a1 #463400 #626767"
DARK = "#0467a8 #dd2506 #2fad4e #a88ab4 #f6ae00 #90e8ff #954e57 #794ee1 #ebdb9f #92b59c"
PALETTE = list(zip(LIGHT.split(), DARK.split()))  # each colour on a light and on a dark page
MARKERS = "osD^vPXp<>d"
DASHES: list[Any] = ["-", (0, (4, 1.5)), (0, (1, 1.2)), (0, (5, 1.5, 1, 1.5))]
SETTINGS = matplotlib.rc_params_from_file(Path(__file__).with_name("style.mplstyle"), use_default_template=False)
INK, RULE = SETTINGS["text.color"], SETTINGS["grid.color"]  # text and axes; grid lines


class Style(NamedTuple):
    """The style of one layer: its number among the layers, its colour, dashes and marker."""

    number: int
    colour: str
    dash: Any
    marker: str

    @property
    def variable(self) -> str:
        """The colour as a variable of the page's style sheet."""
        return f"var(--c{self.number % len(PALETTE)})"

    @property
    def tag(self) -> str:
        """The id of all artists of this layer, from which `svg` makes a class."""
        return f"series{self.number}"


def styles(results: Sequence[Result]) -> dict[str, Style]:
    """The style of each layer by name. Layers are numbered in alphabetical order, whatever their ranks.

    Example:
        >>> from gnnlib.benchmarks.report.plots import styles
        >>> styles([{"layer": "sgc"}, {"layer": "gat"}])["sgc"].number
        1
    """
    result = {}
    for i, layer in enumerate(sorted(result["layer"] for result in results)):
        turn, place = divmod(i, len(PALETTE))
        result[layer] = Style(i, PALETTE[place][0], DASHES[turn % len(DASHES)], MARKERS[i % len(MARKERS)])
    return result


@contextmanager
def report_style() -> Iterator[None]:
    """Sets matplotlib to its defaults and our settings inside the block."""
    with matplotlib.rc_context(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")  # a title may hold any character
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(SETTINGS)
        yield


def metric_label(results: Sequence[Result], prefix: str = "") -> str:
    """The metric with its unit, such as "validation accuracy, %"; a prefix replaces the word "test"."""
    metric = results[0]["metric"]
    name = f"{prefix} {metric['name'].removeprefix('test ')}" if prefix else metric["name"]
    return clip(f"{name}, {metric['unit']}" if metric.get("unit") else name, 40)


def clip(text: str, width: int = 24) -> str:
    """The text, cut to a width that leaves room for the plot."""
    return text if len(text) <= width else text[: width - 1] + "…"


def file_name(text: str) -> str:
    """The text as a part of a file's name: letters, digits and dashes, at most 60 of them.

    Example:
        >>> from gnnlib.benchmarks.report.plots.style import file_name
        >>> file_name("gcn/../<b>")
        'gcn_____b_'
    """
    return re.sub(r"[^\w-]", "_", text)[:60]


def plain(text: str, width: int = 24) -> str:
    """The text, cut to a width, without the formulas that matplotlib would read between dollar signs."""
    return clip(text, width).replace("$", r"\$")


def label_powers(axis: Axis, ratio: float) -> None:
    """Labels a logarithmic axis at 1, 2 and 5, or where the ratio of its ends is large only at powers of ten."""
    axis.set_major_locator(LogLocator(subs=(1.0,) if ratio > 300 else (1.0, 2.0, 5.0)))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: _short(value)))


def _short(value: float) -> str:
    return f"{value / 1e6:g}M" if value >= 1e6 else f"{value / 1e3:g}k" if value >= 1e3 else f"{value:g}"


@report_style()
def png(figure: Figure, background: str = "white") -> bytes:
    """The figure as a PNG file without date and version."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=144, facecolor=background, metadata={"Software": None})
    return buffer.getvalue()


def save(figure: Figure, path: Path, background: str = "white") -> str:
    """Writes the figure as a PNG file and returns the picture as a data URI."""
    content = png(figure, background)
    with atomic_write(path) as part:
        part.write_bytes(content)
    return _uri(content)


def data_uri(figure: Figure, background: str = "white") -> str:
    """The figure as a data URI of a PNG picture."""
    return _uri(png(figure, background))


def _uri(content: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(content).decode()}"


@report_style()
def svg(figure: Figure, name: str, label: str) -> Markup:
    """The figure as an <svg> element whose colours and font are those of the page.

    Text and axes are ``var(--ink)``, grid lines ``var(--rule)``, the layers ``var(--c0)`` to ``var(--c9)``; what
    belongs to the layer of number i has the class ``s<i>``.

    Args:
        figure: the figure
        name: letters and digits, unique in the page: a prefix of the ids inside
        label: the text for readers who cannot see the figure
    """
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", facecolor="none", metadata={"Date": None, "Creator": None})
    opening, inside = buffer.getvalue().split("<svg", 1)[1].split(">", 1)
    box = opening.split('viewBox="')[1].split('"')[0]
    inside = re.sub(r"<metadata>.*?</metadata>", "", inside, flags=re.DOTALL).replace("xlink:href", "href")
    used = set(re.findall(r'(?:url\(|href=")#([^")]+)', inside))

    def rename(match: re.Match[str]) -> str:
        if match[1].startswith("series"):
            return f' class="s{match[1].removeprefix("series")}"'
        return f' id="{name}-{match[1]}"' if match[1] in used else ""

    inside = re.sub(r' id="([^"]*)"', rename, inside)
    inside = re.sub(r'(url\(|href=")#', rf"\1#{name}-", inside)
    inside = re.sub(r"font: ([\d.]+px) [^;\"]*", r"font-size: \1", inside)
    variables = {INK: "--ink", RULE: "--rule"} | {light: f"--c{i}" for i, (light, _) in enumerate(PALETTE)}
    for colour, variable in variables.items():
        inside = inside.replace(colour, f"var({variable})")
    head = Markup('<svg role="img" aria-label="{}" viewBox="{}">').format(label, box)
    return head + Markup(inside)  # matplotlib has escaped all texts
