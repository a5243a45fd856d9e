"""The version, where every other file can read it."""

__version__ = "0.1.0"
