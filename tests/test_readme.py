"""The figures of docs/results.md are those of the committed results, and README's are among them."""

import json
import re
from pathlib import Path

import pytest

from gnnlib._utils.documents import is_sealed

ROOT = Path(__file__).parents[1]
ROW = re.compile(
    r"^\| (?P<task>[\w-]+) \| (?P<layer>[^|]+?) \| (?P<figure>[\d.]+(?: ± [\d.]+)?) \| (?P<seeds>\d+) ", re.M
)
RESULTS = sorted((ROOT / "benchmarks" / "results").glob("*/*/result.json"))


def rows(page: str) -> list[dict[str, str]]:
    return [match.groupdict() for match in ROW.finditer((ROOT / page).read_text("utf-8"))]


ROWS = rows("docs/results.md")


def figure(metric: dict) -> str:
    return f"{metric['mean']:.2f}" + (f" ± {metric['std']:.2f}" if metric["std"] is not None else "")


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: "-".join(path.parts[-3:-1]))
def test_each_committed_result_is_on_the_page(path):
    result = json.loads(path.read_text())
    row = {
        "task": result["task"],
        "layer": result["title"],
        "figure": figure(result["metric"]),
        "seeds": str(len(result["seeds"])),
    }
    assert {k: v.strip() for k, v in row.items()} in ROWS
    assert "dirty" not in result["commit"]
    assert is_sealed(result), "the file was edited; write it with the command that it names"


@pytest.mark.parametrize("name", ["results", "memory", "speed"])
def test_committed_figures_hold_their_checksum(name):
    paths = list((ROOT / "benchmarks" / "results").glob(f"*/{name}.json"))
    assert paths
    assert [str(path) for path in paths if not is_sealed(json.loads(path.read_text()))] == []


def test_each_row_of_the_page_has_a_result():
    assert len(ROWS) == len(RESULTS) > 0


def test_each_row_of_the_readme_is_on_the_page():
    headlines = rows("README.md")
    assert len(headlines) == 5
    assert [row for row in headlines if row not in ROWS] == []


LINK = re.compile(r"\]\((?!https?:)([^)#\s]+)?(?:#([\w-]+))?\)")
PAGES = [ROOT / name for name in ("README.md", "CONTRIBUTING.md")] + sorted((ROOT / "docs").rglob("*.md"))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page):
    """Relative links name a file, and their anchors a heading of it."""
    for name, anchor in LINK.findall(page.read_text("utf-8")):
        target = (page.parent / name).resolve() if name else page
        assert target.exists(), f"{page.name}: {name} does not exist"
        if anchor:
            headings = re.findall(r"^#+ (.+)$", target.read_text("utf-8"), re.M)
            slugs = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
            assert anchor in slugs, f"{page.name}: {target.name} has no heading #{anchor}"
