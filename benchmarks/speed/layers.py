"""The layers of each library with the same weights, and their dense parts."""

import importlib
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

import gnnlib
from gnnlib._platform.dgl import HAS_DGL, dgl
from gnnlib.graph import GraphLike, edge_endpoints
from gnnlib.ops.linear import Linear

State = dict[str, Tensor]
HEADS = 4


@cache
def pyg(module: str = "nn") -> Any:
    """A module of PyTorch Geometric; None where that is not installed."""
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="`torch.jit.script` is deprecated")
            return importlib.import_module(f"torch_geometric.{module}")
    except ImportError:
        return None


@dataclass(frozen=True)
class Kind:
    """A layer in each library.

    Args:
        title: in tables
        ours, dgl, pyg: make the layer from the widths of input and output
        state: renames our state dict for PyG (dgl.nn has our names)
        dense: makes our layer without aggregation
        edge: the edge input of PyG's layer: "norm", GCN's coefficients; "feat", edge features; or None
        csr: PyG's layer takes a sparse matrix too
    """

    title: str
    ours: Callable[[int, int], nn.Module]
    dgl: Callable[[int, int], nn.Module]
    pyg: Callable[[int, int], nn.Module]
    state: Callable[[State], State]
    dense: Callable[[int, int], nn.Module] | None = None
    edge: str | None = None
    csr: bool = True

    def layers(self, widths: Sequence[int]) -> dict[str, nn.ModuleList]:
        """The layers of a network for each installed library; ``widths`` are those of the input and of each layer."""
        pairs = list(pairwise(widths))
        layers = {"ours": nn.ModuleList(self.ours(*pair) for pair in pairs)}
        for name, parameter in layers["ours"].named_parameters():
            if name.endswith("bias"):  # they start at 0, which would hide a wrong bias
                nn.init.normal_(parameter, std=0.1)
        if HAS_DGL:
            layers["dgl"] = nn.ModuleList(self.dgl(*pair) for pair in pairs)
            layers["dgl"].load_state_dict(layers["ours"].state_dict())
        if pyg():
            layers["pyg"] = nn.ModuleList(self.pyg(*pair) for pair in pairs)
            for ours, theirs in zip(layers["ours"], layers["pyg"], strict=True):
                theirs.load_state_dict(self.state(ours.state_dict()))
        if self.dense:
            layers["dense"] = nn.ModuleList(self.dense(*pair) for pair in pairs)
        return layers


def _mlp(in_feats: int, out_feats: int, linear: type[nn.Linear] = nn.Linear) -> nn.Module:
    return nn.Sequential(linear(in_feats, out_feats), nn.ReLU(), linear(out_feats, out_feats))


class _TwoLinear(nn.Module):
    """The sum of two linear layers: GraphSAGE without neighbours."""

    def __init__(self, in_feats: int, out_feats: int):
        super().__init__()
        self.fc_self, self.fc_neigh = Linear(in_feats, out_feats), Linear(in_feats, out_feats, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc_self(x) + self.fc_neigh(x)


def _renamed(state: State, prefix: str, other: str) -> State:
    return {name.replace(prefix, other, 1): value for name, value in state.items()}


GCN = Kind(
    "GCN",
    ours=gnnlib.GCNConv,
    dgl=lambda i, o: dgl.nn.GraphConv(i, o),
    pyg=lambda i, o: pyg().GCNConv(i, o, normalize=False),
    state=lambda s: {"lin.weight": s["weight"].T, "bias": s["bias"]},
    dense=Linear,
    edge="norm",
)
GIN = Kind(
    "GIN",
    ours=gnnlib.GINConv,
    dgl=lambda i, o: dgl.nn.GINConv(_mlp(i, o), "sum"),
    pyg=lambda i, o: pyg().GINConv(_mlp(i, o)),
    state=partial(_renamed, prefix="apply_func", other="nn"),
    dense=partial(_mlp, linear=Linear),
)
GAT = Kind(
    f"GAT, {HEADS} heads",
    ours=lambda i, o: gnnlib.GATConv(i, o // HEADS, HEADS),
    dgl=lambda i, o: dgl.nn.GATConv(i, o // HEADS, HEADS),
    pyg=lambda i, o: pyg().GATConv(i, o // HEADS, HEADS, add_self_loops=False),
    state=lambda s: {
        "lin.weight": s["fc.weight"],
        "att_src": s["attn_l"],
        "att_dst": s["attn_r"],
        "bias": s["bias"],
    },
    dense=Linear,
    csr=False,  # PyG takes the matrix, but gathers as from an edge list
)
SAGE = Kind(
    "GraphSAGE, mean",
    ours=gnnlib.SAGEConv,
    dgl=lambda i, o: dgl.nn.SAGEConv(i, o, "mean"),
    pyg=lambda i, o: pyg().SAGEConv(i, o),
    state=lambda s: {
        "lin_l.weight": s["fc_neigh.weight"],
        "lin_l.bias": s["fc_self.bias"],
        "lin_r.weight": s["fc_self.weight"],
    },
    dense=_TwoLinear,
)


class _Messages(nn.Module):
    """Our MessageConv composed of DGL's operations; neither library has the layer."""

    def __init__(self, in_feats: int, out_feats: int, edge_feats: int):
        super().__init__()
        self.M = nn.Linear(2 * in_feats + edge_feats, out_feats)
        self.U = nn.Linear(in_feats + 2 * out_feats, out_feats)

    def forward(self, graph: dgl.DGLGraph, x: Tensor, edge: Tensor) -> Tensor:
        src, dst, from_edge = self.M.weight.split([x.shape[1], x.shape[1], edge.shape[1]], 1)
        with graph.local_scope():
            graph.ndata["a"], graph.ndata["b"] = x @ src.T, linear(x, dst, self.M.bias)
            graph.apply_edges(dgl.function.u_add_v("a", "b", "m"))
            graph.edata["m"] = (graph.edata["m"] + edge @ from_edge.T).relu()
            for name in ("mean", "max"):
                graph.update_all(dgl.function.copy_e("m", "m"), getattr(dgl.function, name)("m", name))
            return self.U(torch.cat([x, graph.ndata["mean"], graph.ndata["max"]], 1))


def messages(edge_feats: int) -> Kind:
    """The mean and the maximum of rectified messages."""

    def make_pyg(i: int, o: int) -> nn.Module:
        class Messages(pyg().MessagePassing):  # type: ignore[misc]
            def __init__(self):
                super().__init__(aggr=["mean", "max"])
                self.M, self.U = nn.Linear(2 * i + edge_feats, o), nn.Linear(i + 2 * o, o)

            def forward(self, x: Tensor, edge_index: Tensor, edge_attr: Tensor) -> Tensor:
                return self.U(torch.cat([x, self.propagate(edge_index, x=x, edge_attr=edge_attr)], 1))

            def message(self, x_j: Tensor, x_i: Tensor, edge_attr: Tensor) -> Tensor:
                return self.M(torch.cat([x_j, x_i, edge_attr], 1)).relu()

        return Messages()

    return Kind(
        "messages, mean and max",
        ours=partial(gnnlib.MessageConv, edge_feats=edge_feats),
        dgl=partial(_Messages, edge_feats=edge_feats),
        pyg=make_pyg,
        state=lambda s: s,
        edge="feat",
        csr=False,
    )


def ecc(edge_feats: int, hidden: int) -> Kind:
    """The edge-conditioned layer, whose network has one hidden layer."""

    def network(i: int, o: int) -> nn.Module:
        return nn.Sequential(nn.Linear(edge_feats, hidden), nn.ReLU(), nn.Linear(hidden, i * o))

    return Kind(
        f"ECC, hidden {hidden}",
        ours=lambda i, o: gnnlib.ECConv(i, o, edge_feats, hidden=hidden),
        dgl=lambda i, o: dgl.nn.NNConv(i, o, network(i, o), "mean"),
        pyg=lambda i, o: pyg().NNConv(i, o, network(i, o), "mean", root_weight=False),
        state=partial(_renamed, prefix="edge_func", other="nn"),
        edge="feat",
        csr=False,
    )


def both_norm(graph: GraphLike) -> Tensor:
    """GCN's coefficients (E,). PyG would compute them in each call, and counts degrees in another way."""
    src, dst = edge_endpoints(graph)
    return (graph.out_degrees().clamp(min=1)[src] * graph.in_degrees().clamp(min=1)[dst]).float() ** -0.5


def csr(graph: GraphLike, weight: Tensor | None = None, device: torch.device | None = None) -> Tensor:
    """The (N_dst, N_src) matrix whose product with x is the weighted sum over in-edges."""
    adj = gnnlib.adjacency(graph, device).csc
    value = torch.ones(len(adj.eid), device=device) if weight is None else weight[adj.eid.long()]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")
        return torch.sparse_csr_tensor(
            adj.indptr.long(), adj.indices.long(), value, (graph.num_nodes(),) * 2, check_invariants=False
        )


def edge_index(graph: GraphLike, device: torch.device | None = None) -> tuple[Tensor, Tensor]:
    """PyG's edge list sorted by destination, with CSR and CSC cached; and the order of the edges in it."""
    torch.sparse.check_sparse_tensor_invariants.disable()  # the default, about which PyTorch warns
    edges, size = torch.stack(edge_endpoints(graph)).to(device), (graph.num_src_nodes(), graph.num_dst_nodes())
    edges, order = pyg("edge_index").EdgeIndex(edges, sparse_size=size).sort_by("col")
    return edges.fill_cache_(), order


@cache
def gather_scatter() -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """PyG's weighted sum over an edge list: x (N, *, F), edge_index (2, E), weight (E, *)."""

    class Weighted(pyg().MessagePassing):  # type: ignore[misc]
        def __init__(self):
            super().__init__(aggr="add", node_dim=0)

        def forward(self, x: Tensor, edge_index: Tensor, weight: Tensor) -> Tensor:
            return self.propagate(edge_index, x=x, weight=weight.unsqueeze(-1))

        def message(self, x_j: Tensor, weight: Tensor) -> Tensor:
            return weight * x_j

    return Weighted()
