"""The report of a run: a leaderboard from its ``result.json`` files, as an HTML page and in the terminal.

The import is cheap: matplotlib is imported when a page is written, rich when a table is printed.
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
