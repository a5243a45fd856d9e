"""Published figures by depth, on the public splits, each with its source."""

from gnnlib.benchmarks.catalog.published import PUBLISHED as SHALLOW
from gnnlib.benchmarks.catalog.published import Published

__all__ = ["published"]

RONG = "Rong et al. 2020 (DropEdge), arXiv 1907.10903, as quoted in table 3 of arXiv 2007.02133"

ALWAYS = {"dropout", "decay", "decay-parts"}  # all these papers train with them, so that they are no remedies here

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
    """The published figures of a convolution with a remedy, by depth.

    Example:
        >>> from gnnlib.benchmarks.depth.published import published
        >>> published("cora", "gcn", "dropout+decay")[64].value
        28.7
    """
    parts = [name for name in remedy.split("+") if name not in ALWAYS]
    return PUBLISHED.get((data, conv, "+".join(parts) or "none"), {})
