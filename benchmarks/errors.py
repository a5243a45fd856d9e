"""Errors of the command line."""


class UsageError(ValueError):
    """Invalid arguments; the message names the valid ones."""
