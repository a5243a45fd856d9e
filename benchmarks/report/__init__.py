"""The report of a run: reads its ``result.json`` files, ranks the layers, writes one page that opens without a network.

To import this is cheap: matplotlib is loaded when a page is written, rich when a table is printed.
"""

from gnnlib.benchmarks.report.page import write_report
from gnnlib.benchmarks.report.ranking import columns, figures_table, leaderboard, leaderboard_table, sources
from gnnlib.benchmarks.report.reading import load_results

__all__ = [
    "columns",
    "figures_table",
    "leaderboard",
    "leaderboard_table",
    "load_results",
    "sources",
    "write_report",
]
