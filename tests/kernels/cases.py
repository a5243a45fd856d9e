"""Calls of the functions of a module of kernels, with valid random arguments for any graph."""

from collections.abc import Callable
from types import ModuleType

import torch

from gnnlib._platform.dgl import dgl
from gnnlib.graph import Adjacency
from gnnlib.kernels import reference


class Inputs:
    """Random arrays for a graph: features of H heads or, without ``many``, of one."""

    def __init__(self, adj: Adjacency, heads: int, width: int, dtype: torch.dtype, seed: int = 0):
        self.adj, self.heads, self.width, self.dtype = adj, heads, width, dtype
        self.random = torch.Generator().manual_seed(seed)

    def draw(self, *shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=self.random, dtype=torch.float64).to(self.adj.device, self.dtype)

    def src(self, many: bool = True) -> torch.Tensor:
        return self.draw(self.adj.num_src, self.heads if many else 1, self.width)

    def dst(self, many: bool = True) -> torch.Tensor:
        return self.draw(self.adj.num_dst, self.heads if many else 1, self.width)

    def edge(self) -> torch.Tensor:
        return self.draw(self.adj.num_edges, self.heads)

    def att(self) -> torch.Tensor:
        return self.draw(self.heads, self.width)

    def attention(self, scale: float = 1.0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        src, dst = self.draw(self.adj.num_src, self.heads), self.draw(self.adj.num_dst, self.heads)
        return self.src(), scale * src, scale * dst


class RoundedInputs(Inputs):
    """Numbers that bfloat16 has, in any type."""

    def draw(self, *shape: int) -> torch.Tensor:
        return super().draw(*shape).bfloat16().to(self.dtype)


CALLS: dict[str, Callable[[ModuleType, Inputs], object]] = {
    "sum": lambda k, i: k.neighbour_sum(i.adj.csc, i.src(), None, i.heads),
    "sum, weighted": lambda k, i: k.neighbour_sum(i.adj.csc, i.src(), i.edge(), i.heads),
    "sum, one x": lambda k, i: k.neighbour_sum(i.adj.csc, i.src(False), i.edge(), i.heads),
    "sum, over heads": lambda k, i: k.neighbour_sum(i.adj.csc, i.src(), i.edge(), 1),
    "sum, one x, over heads": lambda k, i: k.neighbour_sum(i.adj.csc, i.src(False), i.edge(), 1),
    "sum, by source": lambda k, i: k.neighbour_sum(i.adj.csr, i.dst(), i.edge(), i.heads),
    "dropped_sum": lambda k, i: k.dropped_sum(i.adj.csc, i.src(), None, 2.0, 2**32 - 5, 2**31),
    "dropped_sum, weighted": lambda k, i: k.dropped_sum(i.adj.csc, i.src(), i.edge(), 1.25, 7, 2**30),
    "dropped_sum, one weight": lambda k, i: k.dropped_sum(
        i.adj.csr, i.dst(), i.edge()[:, :1].contiguous(), 2.0, 0, 2**31
    ),
    "dropped_dot": lambda k, i: k.dropped_dot(i.adj.csc, i.src(), i.dst(), i.heads, 2.0, 2**32 - 5, 2**31),
    "dropped_dot, one weight": lambda k, i: k.dropped_dot(i.adj.csr, i.dst(), i.src(), 1, 2.0, 3, 2**31),
    "sum, scaled": lambda k, i: k.scaled_sum(
        i.adj.csc, i.src().flatten(1), i.draw(i.adj.num_src), i.draw(i.adj.num_dst)
    ),
    "sum, scaled, by source": lambda k, i: k.scaled_sum(
        i.adj.csr, i.dst().flatten(1), i.draw(i.adj.num_dst), i.draw(i.adj.num_src)
    ),
    "tap_sum": lambda k, i: k.tap_sum(i.adj.csc, i.src(), torch.arange(i.adj.num_edges).to(i.adj.src) % 3, 4),
    "tap_sum, by source": lambda k, i: k.tap_sum(
        i.adj.csr, i.dst(), torch.arange(i.adj.num_edges, device=i.adj.device) % 3, 4
    ),
    "max": lambda k, i: k.neighbour_max(i.adj.csc, i.src(), None),
    "max, weighted": lambda k, i: k.neighbour_max(i.adj.csc, i.src(), i.edge()),
    "max, tied": lambda k, i: k.neighbour_max(i.adj.csc, i.src().round(), i.edge().sign()),
    "max_grad": lambda k, i: k.max_grad(i.adj.csr, i.dst(), reference.neighbour_max(i.adj.csc, i.src(), None)[1], None),
    "max_grad, weighted": lambda k, i: k.max_grad(
        i.adj.csr, i.dst(), reference.neighbour_max(i.adj.csc, i.src(), i.edge())[1], i.edge()
    ),
    "edge_dot": lambda k, i: k.edge_dot(i.adj.csc, i.src(), i.dst()),
    "edge_dot, one x": lambda k, i: k.edge_dot(i.adj.csc, i.src(False), i.dst()),
    "edge_dot, one y": lambda k, i: k.edge_dot(i.adj.csc, i.src(), i.dst(False)),
    "edge_dot, eight heads": lambda k, i: k.edge_dot(
        i.adj.csc, i.draw(i.adj.num_src, 8, i.width), i.draw(i.adj.num_dst, 8, i.width)
    ),
    "edge_dot, four heads of one y": lambda k, i: k.edge_dot(
        i.adj.csc, i.draw(i.adj.num_src, 4, i.width), i.dst(False)
    ),
    "edge_sum": lambda k, i: k.edge_sum(i.adj.csc, i.edge()),
    "edge_sum, by source": lambda k, i: k.edge_sum(i.adj.csr, i.edge()),
    "edge_softmax": lambda k, i: k.edge_softmax(i.adj.csc, 4 * i.edge()),
    "edge_softmax_grad": lambda k, i: k.edge_softmax_grad(i.adj.csc, i.edge(), i.edge()),
    "edge_score": lambda k, i: k.edge_score(i.adj.csc, i.src(), i.dst(), i.att(), 0.2),
    "edge_score, one a": lambda k, i: k.edge_score(i.adj.csc, i.src(False), i.dst(), i.att(), 0.0),
    "edge_score, one of each": lambda k, i: k.edge_score(i.adj.csc, i.src(False), i.dst(False), i.att(), 0.2),
    "edge_score_grad of b": lambda k, i: k.edge_score_grad(i.adj.csc, i.dst(), i.src(), i.att(), 0.2, i.edge()),
    "edge_score_grad of one b": lambda k, i: k.edge_score_grad(
        i.adj.csc, i.dst(False), i.src(), i.att(), 0.2, i.edge()
    ),
    "edge_score_grad of a": lambda k, i: k.edge_score_grad(i.adj.csr, i.src(), i.dst(False), i.att(), 0.0, i.edge()),
    "edge_score_att_grad": lambda k, i: k.edge_score_att_grad(i.adj.csc, i.src(), i.dst(), 0.2, i.edge()),
    "edge_score_att_grad, one of each": lambda k, i: k.edge_score_att_grad(
        i.adj.csc, i.src(False), i.dst(False), 0.2, i.edge()
    ),
    "attend": lambda k, i: k.attend(i.adj.csc, i.adj.csr, *i.attention(), 0.2, None, None)[0],
    "attend, weighted": lambda k, i: k.attend(i.adj.csc, i.adj.csr, *i.attention(), 0.2, i.edge(), i.att())[0],
    "attend, one weight": lambda k, i: k.attend(
        i.adj.csc, i.adj.csr, *i.attention(), 0.0, i.edge()[:, :1].contiguous(), None
    )[0],
    "attend, far apart": lambda k, i: k.attend(i.adj.csc, i.adj.csr, *i.attention(64), 0.2, i.edge(), i.att())[0],
    "attend, beyond a slope": lambda k, i: k.attend(i.adj.csc, i.adj.csr, *i.attention(), -0.5, None, None)[0],
    "attend_grad": lambda k, i: attend_grad(k, i, None),
    "attend_grad, far apart": lambda k, i: attend_grad(k, i, i.edge(), i.attention(64)),
    "attend_grad, weighted": lambda k, i: attend_grad(k, i, i.edge()),
    "attend_grad, one weight": lambda k, i: attend_grad(k, i, i.edge()[:, :1].contiguous()),
    "attend_ends_grad": lambda k, i: attend_ends_grad(k, i, i.draw(2, i.heads, i.width)),
    "attend_ends_grad, one vector": lambda k, i: attend_ends_grad(k, i, i.draw(1, i.heads, i.width)),
}


def attend_grad(k: ModuleType, i: Inputs, coeff: torch.Tensor | None, attention: tuple | None = None):
    feat, *sides = attention or i.attention()
    saved = k.attend(i.adj.csc, i.adj.csr, feat, *sides, 0.2, coeff, i.att())[1:]
    return k.attend_grad(i.adj.csc, i.adj.csr, i.dst(), feat, 0.2, coeff, *saved)


def attend_ends_grad(k: ModuleType, i: Inputs, att: torch.Tensor):
    feat, d_feat, d_score = i.src(), i.src(), i.edge()
    d_dst = i.draw(min(i.adj.num_src, i.adj.num_dst), i.heads) if len(att) > 1 else None
    return k.attend_ends_grad(i.adj.csr, feat, att, d_score, d_dst, d_feat)


def call(name: str, module: ModuleType, *inputs) -> tuple[torch.Tensor, ...]:
    return call_on(Inputs(*inputs), name, module)


def call_on(inputs: Inputs, name: str, module: ModuleType) -> tuple[torch.Tensor, ...]:
    got = (CALLS | VECTOR_CALLS)[name](module, inputs)
    return got if isinstance(got, tuple) else (got,)  # type: ignore[return-value]


def hub(num_nodes: int = 500, num_edges: int = 4000) -> dgl.DGLGraph:
    """Node 0 has a third of all edges as in-edges and another third as out-edges; half of the nodes have no edges."""
    random = torch.Generator().manual_seed(1)
    src, dst = torch.randint(num_nodes // 2, (2, num_edges), generator=random)
    dst[::3] = 0
    src[1::3] = 0
    return dgl.graph((src, dst), num_nodes=num_nodes)


def gates(i: Inputs) -> tuple[torch.Tensor, ...]:
    """The arguments of `gated_sum` and `gate_grad`."""
    width = i.width
    t, x = i.draw(i.adj.num_edges, width).tanh(), i.draw(i.adj.num_src, width)
    return t, x, i.draw(i.adj.num_dst, width), i.draw(i.adj.num_dst, width)


def rectified(i: Inputs) -> tuple[torch.Tensor, ...]:
    """The arguments of `rectified_sum` and `rectified_grad`."""
    return i.draw(i.adj.num_src, i.width), i.draw(i.adj.num_edges, i.width), i.draw(i.adj.num_edges)


def rectified_terms(i: Inputs, num_feats: int = 2) -> tuple[torch.Tensor, ...]:
    """The arguments of `rectified_mean_max`."""
    ends = i.draw(i.adj.num_src, i.width), i.draw(i.adj.num_dst, i.width)
    return *ends, i.draw(i.adj.num_edges, num_feats), i.draw(num_feats, i.width), i.draw(i.adj.num_dst)


def rectified_mean_max_grad(k: ModuleType, i: Inputs):
    terms = rectified_terms(i)
    arg = reference.rectified_mean_max(i.adj.csc, *terms)[2]
    grads = i.draw(i.adj.num_dst, i.width), i.draw(i.adj.num_dst, i.width)
    return k.rectified_mean_max_grad(i.adj.csc, i.adj.csr, *terms, arg, *grads)


VECTOR_CALLS: dict[str, Callable[[ModuleType, Inputs], object]] = {
    "sum, with own row": lambda k, i: k.neighbour_sum(i.adj.csc, i.src(), None, i.heads, 0.5),
    "gated_sum": lambda k, i: k.gated_sum(i.adj.csc, *gates(i)[:2]),
    "gated_sum, by source": lambda k, i: k.gated_sum(i.adj.csr, gates(i)[0], gates(i)[2]),
    "gate_grad": lambda k, i: k.gate_grad(i.adj.csc, *gates(i)),
    "rectified_sum": lambda k, i: k.rectified_sum(i.adj.csc, *rectified(i)),
    "rectified_grad": lambda k, i: k.rectified_grad(i.adj.csc, *rectified(i), i.draw(i.adj.num_dst, i.width)),
    "rectified_mean_max": lambda k, i: k.rectified_mean_max(i.adj.csc, *rectified_terms(i)),
    "rectified_mean_max, no edge features": lambda k, i: k.rectified_mean_max(i.adj.csc, *rectified_terms(i, 0)),
    "rectified_mean_max_grad": rectified_mean_max_grad,
}
"""Further calls; numba's kernels of these are tested with the operations that they are part of."""
