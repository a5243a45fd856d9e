"""The README's figures are those of the committed results."""

import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROW = re.compile(
    r"^\| (?P<task>[\w-]+) \| (?P<layer>[^|]+?) \| (?P<figure>[\d.]+(?: ± [\d.]+)?) \| (?P<seeds>\d+) ", re.M
)
ROWS = [match.groupdict() for match in ROW.finditer((ROOT / "README.md").read_text("utf-8"))]
RESULTS = sorted((ROOT / "benchmarks" / "results").glob("*/*/result.json"))


def figure(metric: dict) -> str:
    return f"{metric['mean']:.2f}" + (f" ± {metric['std']:.2f}" if metric["std"] is not None else "")


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: "-".join(path.parts[-3:-1]))
def test_each_committed_result_stands_in_the_readme(path):
    result = json.loads(path.read_text())
    row = {
        "task": result["task"],
        "layer": result["title"],
        "figure": figure(result["metric"]),
        "seeds": str(len(result["seeds"])),
    }
    assert {k: v.strip() for k, v in row.items()} in ROWS
    assert "dirty" not in result["commit"]


def test_each_row_of_the_readme_has_a_result():
    assert len(ROWS) == len(RESULTS) > 0
