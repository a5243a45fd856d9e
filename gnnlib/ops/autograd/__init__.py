"""The differentiable kernels, on arrays of one shape: features (N, H, F), edge values (E, H), `Adjacency`.

    y_v = sum over edges u->v of  b(u->v) x_u                  `Sum`
    s(u->v) = <x_u, y_v>                                       `Dot`

The two differentiate into each other, so composing them gives derivatives of any order: dy/dx is a `Sum` over the
reversed edges, dy/db a `Dot`. The others have a fused first derivative and, where a second one is
asked for, are recomposed from these two. Public faces, with checks and free axes, are in `gnnlib.ops.message_passing`.

Shapes: N_src, N_dst nodes, E edges in edge-id order. A head axis of length 1 stands for "the same for all heads".
"""
