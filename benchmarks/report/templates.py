"""HTML pages from Jinja templates. Every variable is escaped; a template lies beside the code that renders it."""

from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from gnnlib._utils.files import atomic_write
from gnnlib.benchmarks.report.plots import PALETTE

__all__ = ["Picture", "write_page"]

ENVIRONMENT = Environment(
    loader=FileSystemLoader(Path(__file__).parents[1]),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
ENVIRONMENT.globals["palette"] = PALETTE


class Picture(NamedTuple):
    """A picture of a page: its data URI, the text for readers who cannot see it, and its caption."""

    image: str
    alt: str
    caption: str


def write_page(path: Path, template: str, **variables: Any) -> Path:
    """Renders a template into a file.

    Args:
        path: the file
        template: its path below the folder of the benchmarks, such as "report/page.html"
        variables: of the template

    Returns:
        the path of the file
    """
    page = ENVIRONMENT.get_template(template).render(variables)
    with atomic_write(path) as part:
        part.write_bytes(page.encode())
    return path
