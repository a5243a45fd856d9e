"""Mutated files of every kind that the library reads, under an audit hook: ``python -m tests.attack``."""
