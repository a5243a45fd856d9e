"""``python -m benchmarks speed``: how long things take, beside the same things in other libraries.

Floors, each importing from those above it here: `graphs` (what is computed on), `layers` (each library's layer with the
same weights), `bound` (what memory allows), `measure` (one row of figures), `single`, `batches`, `grid`, `growth` and
`workloads` (what is timed), `worker` (a process that times), `show` and `plot`, `command` (a worker for each regime).
"""
