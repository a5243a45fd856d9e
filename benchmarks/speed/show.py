"""Tables of the figures for the terminal, one for each allocator and number of threads."""

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any

from rich import box
from rich.table import Table

from gnnlib.benchmarks.speed.measure import PEERS, Row
from gnnlib.benchmarks.speed.remedies import DEPTH

GRAIN = 1e6  # bytes; peaks that differ by less are equal
EXPLANATION = (
    "GCN, GIN, GAT, GraphSAGE: a training step of three layers 128 wide on one large graph; superpixels, pixels: of "
    "four layers 64 wide, a batch, from the loader to the optimizer; of images, one to a graph, or a batch from the "
    "disk by itself. dgl.nn, PyG, CSR: how many times longer they take (median of the ratios of neighbouring "
    "repetitions), and the target. EdgeIndex: PyG with its sorted edge list, with CSR and CSC cached. CSR: the "
    "adjacency as a sparse matrix of PyTorch, in PyG's layers or multiplied alone. dense: the same without "
    "aggregation. bound: the least time that the dense part and the gathered rows' way from memory need, as a share of "
    "ours. peak: memory of a step, ours and the best peer's (for ECC, hidden 16, a tenth of it)."
)
IN_BFLOAT16 = (
    "Sums 128 wide, and training steps of three layers 128 wide, on the same large graph with features in bfloat16. "
    "float32: how many times longer gnnlib takes in float32, and the target. Widened: without the processor's "
    "instructions for bfloat16, products are computed in float32."
)
ON_A_CARD = (
    "Training steps of three layers 128 wide, and sums, on a large graph; products: on a graph of the size of "
    "ogbn-products. PyG: how many times longer it takes on an edge list, on that list under torch.compile, and on its "
    "EdgeIndex; CSR: on a sparse matrix of PyTorch. bound: the time of "
    "the dense part and of a copy of as many bytes as the sums read and write, as a share of ours. peak: memory of a "
    "step in PyTorch's allocator, ours and the best peer's."
)
COMPILED = (
    "A training step of three layers 128 wide under torch.compile. PyG: how many times longer PyTorch Geometric takes, "
    "on an edge list and under torch.compile. eager: how many times longer gnnlib takes in eager mode."
)
ON_GRIDS = (
    "dense: a training step of a network that went through `from_torch`, by PyTorch's own kernels. As a graph: a 3 x 3 "
    "convolution by messages, 16 channels, 64 images of 28 x 28. torch: how many times longer plain PyTorch takes, and "
    "the target. peak: memory of a step, ours and PyTorch's."
)
REMEDIES = (
    "A training step of a network 64 wide on a graph of Cora's size, its time and the memory it takes, for each layer; "
    "and as multiples of the same network's without the remedy. appnp, dagnn: 16 hops after two layers without a graph."
)
HEADINGS = {
    "dgl": "dgl.nn\ntimes",
    "pyg": "PyG\ntimes",
    "pyg-compiled": "PyG,\ncompiled",
    "edge-index": "PyG,\nEdgeIndex",
    "csr": "CSR\ntimes",
    "torch": "torch\ntimes",
    "float32": "float32\ntimes",
    "eager": "eager\ntimes",
}


def tables(rows: Sequence[Row]) -> Iterator[Table]:
    """For the terminal, less than 120 columns wide."""
    for title, group in groupby(rows, key=regime_name):
        regime = list(group)
        if regime[0].device != "cpu":
            yield _compared(regime, title, ON_A_CARD)
            continue
        remedies = [row for row in regime if "plain" in row.seconds]
        compared = [row for row in regime if not row.factors and row not in remedies]
        if on_graphs := [row for row in compared if not {"torch", "float32", "eager"} & row.seconds.keys()]:
            yield _compared(on_graphs, title, EXPLANATION)
        if on_grids := [row for row in compared if "torch" in row.seconds]:
            yield _compared(on_grids, title, ON_GRIDS)
        if halves := [row for row in compared if "float32" in row.seconds]:
            yield _compared(halves, title, IN_BFLOAT16)
        if compiled := [row for row in compared if "eager" in row.seconds]:
            yield _compared(compiled, title, COMPILED)
        if remedies:
            yield _cost(remedies, title)
        if grown := [row for row in regime if row.factors]:
            yield _grown(grown, title)


def regime_name(row: Row) -> str:
    """The allocator and the number of threads of a row, or its device."""
    if row.device != "cpu":
        return row.device
    return f"{row.allocator} allocator, {row.threads} thread{'s' if row.threads > 1 else ''}"


def _compared(rows: Sequence[Row], title: str, explanation: str) -> Table:
    """Times and peak memory beside those of the peers; empty columns are left out."""
    columns = {
        "gnnlib\nms": [_ours(row) for row in rows],
        **{heading: [_ratio(row, peer) for row in rows] for peer, heading in HEADINGS.items()},
        "dense\nms": [milliseconds(row.median("dense")) for row in rows],
        "bound\nshare": [_bound(row) for row in rows],
        "peak\nMB": [_peak(row) for row in rows],
    }
    columns = {heading: cells for heading, cells in columns.items() if any(cells)}
    table = Table("workload", box=box.SIMPLE_HEAD, title=title, caption=explanation, caption_justify="left")
    for heading in columns:
        table.add_column(heading, justify="right", no_wrap=True)
    for row, *cells in zip(rows, *columns.values()):
        table.add_row(row.title, *cells)
    return table


def _cost(rows: Sequence[Row], title: str) -> Table:
    """The cost of remedies for each layer of a deep network."""
    table = Table("remedy", box=box.SIMPLE_HEAD, title=f"{title}: GCN, {DEPTH} layers", caption=REMEDIES)
    for heading in ("ms a layer", "times plain", "MB a layer", "times plain"):
        table.add_column(heading, justify="right")
    for row in rows:
        ratio, ours, plain = row.ratio("plain") or 1.0, row.peak.get("gnnlib"), row.peak.get("plain")
        memory = ("", "") if ours is None or not plain else (f"{ours / 1e6 / DEPTH:.2f}", f"{ours / plain:.2f}")
        table.add_row(row.title, milliseconds((row.median("gnnlib") or 0.0) / DEPTH), f"{1 / ratio:.2f}", *memory)
    return table


def _grown(rows: Sequence[Row], title: str) -> Table:
    """The growth of time with the number of edges or the width."""
    table = Table("growth", "ms", "exponent", box=box.SIMPLE_HEAD, title=title)
    for row in rows:
        steps = ", ".join(f"{name} {milliseconds(row.median(name))}" for name in row.factors)
        exponent, limit = row.exponent or 0.0, row.targets.get("exponent")
        table.add_row(
            row.title, steps, f"{exponent:.2f}" if limit is None else _against(exponent, limit, exponent < limit)
        )
    return table


def milliseconds(seconds: float | None) -> str:
    """Seconds as milliseconds with three digits or more; an empty text for None.

    Example:
        >>> from gnnlib.benchmarks.speed.show import milliseconds
        >>> milliseconds(0.01234), milliseconds(1.234), milliseconds(None)
        ('12.3', '1,234', '')
    """
    if seconds is None:
        return ""
    value = 1e3 * seconds
    return f"{value:,.{0 if value >= 100 else 1 if value >= 10 else 2}f}"


def _ours(row: Row) -> str:
    seconds, limit = row.median("gnnlib") or 0.0, row.targets.get("ms")
    if limit is None:
        return milliseconds(seconds)
    met = 1e3 * seconds <= limit
    return f"{milliseconds(seconds)} {_signed('≤' if met else '>', met)} {milliseconds(limit / 1e3)}"


def _ratio(row: Row, peer: str) -> str:
    ratio, target = row.ratio(peer), row.targets.get(peer)
    if ratio is None:
        return row.failures.get(peer, "")
    return f"{ratio:.2f}" if target is None else _against(ratio, target, ratio >= target)


def _against(value: float, target: float, met: bool, form: str = ".2f") -> str:
    return (
        f"{value:{form}} {_signed('≥' if value >= target else '<', met)} {target:{'.0%' if form == '.0%' else '.3g'}}"
    )


def _signed(sign: str, met: bool) -> str:
    """The sign between a figure and its target, green where the target is met, else red."""
    return f"[{'green' if met else 'red'}]{sign}[/]"


def _bound(row: Row) -> str:
    share, target = row.bound, row.targets.get("bound")
    if share is None:
        return ""
    return f"{share:.0%}" if target is None else _against(share, target, share >= target, ".0%")


def _peak(row: Row) -> str:
    """Our peak memory and its limit: the best peer's, or the target's share of that."""
    ours = row.peak.get("gnnlib")
    theirs = [peak for peer in PEERS if (peak := row.peak.get(peer)) is not None]
    if ours is None:
        return ""
    if not theirs:
        return f"{ours / 1e6:,.0f}"
    limit = min(theirs) * row.targets.get("peak", 1.0)
    met = ours <= limit + GRAIN
    return f"{ours / 1e6:,.0f} {_signed('≤' if met else '>', met)} {limit / 1e6:,.0f}"


def notes(document: dict[str, Any]) -> Iterator[str]:
    """The conditions of the measurement, a line for each."""
    bandwidth = ", ".join(f"{value / 1e9:.1f}" for value in document["copy_bandwidth"])
    yield f"Copying a large array moves {bandwidth} GB/s. {document['machine']}."
    if document["shrink"] > 1:
        yield f"Graphs are {document['shrink']} times smaller than in the full run: more of them fits into caches."
    if document["versions"]["torch_geometric"] is None:
        yield "PyTorch Geometric is not installed; to compare with it: pip install 'gnnlib[peers]'"
    else:
        yield "PyG runs without pyg-lib and torch-scatter, which have no wheels on PyPI."
