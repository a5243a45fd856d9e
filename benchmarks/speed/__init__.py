"""``python -m benchmarks speed``: the time of workloads in gnnlib and in other libraries.

Each module imports only from those before it: `graphs` (inputs), `layers` (the layers of each library with the same
weights), `bound` (the time that memory alone takes), `measure` (one row of figures), `single`, `batches`, `grid`,
`growth` and `workloads` (the workloads), `worker` (a process that times them), `show` and `plot` (tables and a figure),
`command` (a worker for each allocator and number of threads).
"""
