"""Published figures by depth, on the public splits, each with its source."""

from benchmarks.published import KIPF, PUBLIC_100, Published

__all__ = ["published"]

CHEN = "Chen et al. 2020 (GCNII), arXiv 2007.02133, table 3"
RONG = "Rong et al. 2020 (DropEdge), arXiv 1907.10903, as quoted in table 3 of arXiv 2007.02133"
LIU = "Liu et al. 2020 (DAGNN), arXiv 2007.09296, table of the public splits"

ALWAYS = {"dropout", "decay", "decay-parts"}  # what all these papers train with; a row is the same without the word

PUBLISHED: dict[tuple[str, str, str], dict[int, Published]] = {
    ("cora", "gcn", "none"): {2: Published(81.5, None, KIPF, PUBLIC_100), 64: Published(28.7, None, RONG, "64 layers")},
    ("pubmed", "gcn", "none"): {
        2: Published(79.0, None, KIPF, PUBLIC_100),
        64: Published(35.3, None, RONG, "64 layers"),
    },
    ("citeseer", "gcn", "none"): {2: Published(70.3, None, KIPF, PUBLIC_100)},
    ("cora", "gcn", "gcnii"): {64: Published(85.5, 0.5, CHEN, "64 layers, 100 runs")},
    ("pubmed", "gcn", "gcnii"): {16: Published(80.2, 0.4, CHEN, "16 layers, 100 runs")},
    ("cora", "gcn", "appnp"): {10: Published(83.3, None, LIU, "10 hops")},
    ("pubmed", "gcn", "appnp"): {10: Published(79.7, None, LIU, "10 hops")},
    ("cora", "gcn", "dagnn"): {10: Published(84.4, 0.5, LIU, "10 hops")},
    ("pubmed", "gcn", "dagnn"): {20: Published(80.5, 0.5, LIU, "20 hops")},
}


def published(data: str, conv: str, remedy: str) -> dict[int, Published]:
    """By depth.

    >>> published("cora", "gcn", "dropout+decay")[64].value
    28.7
    """
    parts = [name for name in remedy.split("+") if name not in ALWAYS]
    return PUBLISHED.get((data, conv, "+".join(parts) or "none"), {})
