"""Graph structure: adjacency, batches, transforms."""
