"""Published figures by depth, on the public splits, each with its source."""

from gnnlib.benchmarks.catalog.published import PUBLISHED as SHALLOW
from gnnlib.benchmarks.catalog.published import Published

__all__ = ["published"]

RONG = "Rong et al. 2020 (DropEdge), arXiv 1907.10903, as quoted in table 3 of arXiv 2007.02133"

ALWAYS = {"dropout", "decay", "decay-parts"}  # what all these papers train with; a row is the same without the word

PUBLISHED: dict[tuple[str, str, str], dict[int, Published]] = {
    ("cora", "gcn", "none"): {2: SHALLOW["cora", "gcn"], 64: Published(28.7, None, RONG, "64 layers")},
    ("pubmed", "gcn", "none"): {2: SHALLOW["pubmed", "gcn"], 64: Published(35.3, None, RONG, "64 layers")},
    ("citeseer", "gcn", "none"): {2: SHALLOW["citeseer", "gcn"]},
    ("cora", "gcn", "gcnii"): {64: SHALLOW["cora", "gcnii"]},
    ("pubmed", "gcn", "gcnii"): {16: SHALLOW["pubmed", "gcnii"]},
    ("cora", "gcn", "appnp"): {10: SHALLOW["cora", "appnp"]},
    ("pubmed", "gcn", "appnp"): {10: SHALLOW["pubmed", "appnp"]},
    ("cora", "gcn", "dagnn"): {10: SHALLOW["cora", "dagnn"]},
    ("pubmed", "gcn", "dagnn"): {20: SHALLOW["pubmed", "dagnn"]},
}


def published(data: str, conv: str, remedy: str) -> dict[int, Published]:
    """By depth.

    >>> published("cora", "gcn", "dropout+decay")[64].value
    28.7
    """
    parts = [name for name in remedy.split("+") if name not in ALWAYS]
    return PUBLISHED.get((data, conv, "+".join(parts) or "none"), {})
