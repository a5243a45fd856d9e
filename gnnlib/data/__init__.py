"""Stores of many small graphs, in memory and on disk."""

from gnnlib.data.store import GraphStore

__all__ = [
    "GraphStore",
]
