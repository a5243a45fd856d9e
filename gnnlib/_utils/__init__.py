"""Files, processes and memory."""
