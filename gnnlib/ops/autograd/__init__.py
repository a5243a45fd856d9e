"""Autograd functions of message passing, on features (N, H, F), edge values (E, H) and an `Adjacency`.

    y_v = sum over edges u->v of  b(u->v) x_u                  `Sum`
    s(u->v) = <x_u, y_v>                                       `Dot`

These two differentiate into each other, so their compositions have derivatives of any order: dy/dx is a `Sum` over the
reversed edges, dy/db a `Dot`. The other functions have a fused first derivative; for a second one they are
composed of these two. `gnnlib.ops` has the public functions, which check their arguments.

Shapes: N_src and N_dst nodes, E edges in the order of edge ids. A head axis of length 1 is shared by all heads.
"""
