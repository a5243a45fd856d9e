"""The names of convolutions and remedies, and what each does to a stack and its training.

A remedy is a function that changes a `Plan`; ``a+b`` is both. The plan of "none" holds nothing at all: dropout and
weight decay are remedies like the others.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from torch import Tensor, nn

from gnnlib import (
    APPNP,
    DAGNN,
    BatchNorm,
    ContraNorm,
    DenseConnection,
    DiffGroupNorm,
    DropEdge,
    DropMessage,
    DropNode,
    FeedForward,
    GCNConv,
    GNNLayer,
    GradientGating,
    GraphNorm,
    GRUUpdate,
    InitialResidual,
    JumpingKnowledge,
    LayerNorm,
    MeanSubtraction,
    NodeNorm,
    PairNorm,
    PairNormSCS,
    Residual,
    SGConv,
    SkipInit,
    SkipNode,
    Stack,
    lsuv_init_,
)
from gnnlib._platform.dgl import dgl
from gnnlib.benchmarks.catalog.layers import LAYERS, Geometry, Pointwise
from gnnlib.benchmarks.errors import UsageError
from gnnlib.graph import GraphLike
from gnnlib.nn.conv.base import Conv
from gnnlib.nn.drop import Dropout
from gnnlib.nn.reparametrize import block_diagonal, circulant, identity_mapping, low_rank, share_parameters_
from gnnlib.rewiring import add_k_hop_edges, add_virtual_node, fosr, gtr, sdrf

__all__ = ["CONVS", "REMEDIES", "Kind", "Plan", "make_plan"]

Factory = Callable[[int, int], nn.Module]
Rewiring = Callable[[GraphLike], GraphLike]

NEW_EDGES = 0.1
"""The edges that SDRF and FoSR add, as a fraction of those of the graph."""

NEW_EDGES_GTR = 0.01
"""The edges that GTR adds. Each takes O(n^2) time, and few edges reduce the resistance most."""


@dataclass(frozen=True)
class Kind:
    """A convolution: its title, what makes it, the activation of a stack of it, and the average over neighbours that
    it takes before its weight, if that is how it works."""

    title: str
    make: Factory
    activation: Callable[[], nn.Module] = nn.ReLU
    average: Factory | None = None
    hops: bool = False  # all weights come first: as many features as classes, and no weight at any depth


def _average(in_feats: int, out_feats: int) -> nn.Module:
    return GCNConv(in_feats, out_feats, weight=False, bias=False)


def _layer(name: str) -> Kind:
    return Kind(LAYERS[name].title, LAYERS[name].make(Geometry()))


CONVS = {
    "gcn": Kind("GCN", GCNConv, average=_average),
    "gin": _layer("gin"),
    "gat": _layer("gat"),
    "sage": _layer("sage"),
    "sgc": Kind("SGC, a stack", partial(SGConv, k=1), nn.Identity, _average),
    "sgc-hops": Kind("SGC, hops", _average, nn.Identity, _average, hops=True),
    "mlp": _layer("mlp"),
}


@dataclass
class Plan:
    """A stack to be made and trained."""

    kind: Kind
    depth: int
    in_feats: int
    width: int
    out_feats: int
    drop: float = 0.5
    weight_decay: float = 5e-4
    alpha: float = 0.1  # share of the first features
    lam: float = 0.5  # of identity mapping
    make: Factory = field(init=False)
    layers: int = field(init=False)
    keywords: dict[str, Any] = field(default_factory=dict)  # of `Stack.build`
    around: list[Callable[[nn.Module], nn.Module]] = field(default_factory=list)  # the layers between the ends
    finish: list[Callable[[Stack, dgl.DGLGraph, Tensor], None]] = field(default_factory=list)
    rewirings: list[Rewiring] = field(default_factory=list)  # of the graph, before the model is built
    decay: dict[str, float] = field(default_factory=dict)  # as `decay_groups` takes it
    layerwise: bool = False
    end_to_end: bool = True  # whether all layers are trained together, perhaps after one by one

    def __post_init__(self) -> None:
        self.make, self.layers = self.kind.make, self.depth

    def set(self, **keywords: Any) -> None:
        for name, value in keywords.items():
            if self.keywords.setdefault(name, value) != value:
                raise UsageError(f"two of them set {name}: {_name(self.keywords[name])} and {_name(value)}")

    def build(self, graph: dgl.DGLGraph, x: Tensor) -> Stack:
        """The stack, at its start."""
        width, keywords = self.width, {"activation": self.kind.activation, **self.keywords}
        if self.kind.hops and self.make is self.kind.make:
            width, keywords["encoder"] = self.out_feats, True
            if not keywords.keys() & {"jump", "reversible"}:
                keywords.setdefault("head", False)
        stack = Stack.build(self._conv, self.in_feats, width, self.out_feats, self.layers, **keywords)
        for change in self.finish:
            change(stack, graph, x)
        return stack

    def check_task(self, name: str, remedies: str) -> None:
        """Checks that a task other than the depth study can have the plan.

        Raises:
            UsageError: if layers are trained one by one, or the graph is rewired
        """
        if self.layerwise:
            raise UsageError(f"--remedy: {name} trains networks as a whole, got {remedies!r}")
        if self.rewirings:
            raise UsageError(f"--remedy: {name} trains networks on the graphs as they are, got {remedies!r}")

    def _conv(self, in_feats: int, out_feats: int) -> nn.Module:
        conv = self.make(in_feats, out_feats)
        for change in self.around:
            conv = change(conv)
        return conv


def _name(value: Any) -> str:
    return _name(value.func) if isinstance(value, partial) else getattr(value, "__name__", str(value))


Remedy = Callable[[Plan], None]


def _with(**keywords: Any) -> Remedy:
    """A remedy that is something `Stack.build` takes."""
    return lambda plan: plan.set(**keywords)


def _dropping(keyword: str, kind: Callable[[float], nn.Module]) -> Remedy:
    return lambda plan: plan.set(**{keyword: kind(plan.drop)})


def _drop_message(plan: Plan) -> None:
    plan.around.append(lambda conv: DropMessage(conv, plan.drop) if isinstance(conv, Conv) else conv)


def _decay(plan: Plan) -> None:
    plan.decay["*"] = plan.weight_decay


def _decay_parts(plan: Plan) -> None:
    """That of GCNII's code: twenty times as strong in the blocks."""
    plan.decay |= {"*": plan.weight_decay, "blocks.*": 20 * plan.weight_decay}


def _dense(plan: Plan) -> None:
    """Each layer adds a quarter of the width, or the last ones would be too wide to train."""
    plan.width = max(1, plan.width // 4)
    plan.set(skip=DenseConnection, encoder=True)


def _jk_lstm(plan: Plan) -> None:
    """As wide as the layers: by default it would have 34 million parameters over 64 of them."""
    plan.set(jump=partial(JumpingKnowledge.lstm, hidden=plan.width))


def _gradient_gating(plan: Plan) -> None:
    make, activation = plan.make, plan.kind.activation
    plan.make = lambda i, o: GradientGating(make(i, o), gate=make(i, o), activation=activation)
    plan.set(encoder=True)


def _skip_node(plan: Plan) -> None:
    plan.set(encoder=True, skip=partial(SkipNode, p=plan.drop))


def _initial(plan: Plan, lam: float | None = None) -> None:
    plan.set(encoder=True, skip=partial(InitialResidual, alpha=plan.alpha, lam=lam))


def _gcnii(plan: Plan) -> None:
    """The paper's layer where the convolution averages before its weight; else both halves around its own weights."""
    if plan.kind.average is not None:
        plan.make = plan.kind.average
        _initial(plan, plan.lam)
        return
    _initial(plan)
    plan.finish.append(partial(_map_identity, lam=plan.lam))


def _map_identity(stack: Stack, graph: dgl.DGLGraph, x: Tensor, lam: float) -> None:
    for layer, conv in enumerate(_convs(stack), 1):
        identity_mapping(conv, layer, lam)


def _convs(stack: Stack) -> list[nn.Module]:
    return [block.conv for block in stack.blocks if isinstance(block, GNNLayer)]


def _share(plan: Plan) -> None:
    plan.set(encoder=True)
    plan.finish.append(lambda stack, graph, x: share_parameters_(_convs(stack)))


def _smaller(form: Callable[[nn.Module, Plan], nn.Module]) -> Remedy:
    """Another form for square weights; layers at the ends, and those without weights, stay as they are."""

    def square(conv: nn.Module) -> bool:
        shapes = [p.shape for p in conv.parameters() if p.dim() == 2]
        return bool(shapes) and all(rows == columns for rows, columns in shapes)

    return lambda plan: plan.around.append(lambda conv: form(conv, plan) if square(conv) else conv)


def _lsuv(plan: Plan) -> None:
    plan.finish.append(lambda stack, graph, x: lsuv_init_(stack, graph, x))


def _layerwise(plan: Plan, end_to_end: bool) -> None:
    plan.layerwise, plan.end_to_end = True, end_to_end
    plan.set(head=True)


def _rewire(rewiring: Rewiring) -> Remedy:
    return lambda plan: plan.rewirings.append(rewiring)


def _propagate(plan: Plan, readout: Callable[[Plan], nn.Module]) -> None:
    """A network of two layers without a graph, then as many hops as the depth says: the papers' form."""
    plan.make, plan.layers = Pointwise, 2
    plan.set(readout=readout(plan), head=False, activation=nn.ReLU)


REMEDIES: dict[str, Remedy] = {
    "none": lambda plan: None,
    "batchnorm": _with(norm=BatchNorm),
    "layernorm": _with(norm=LayerNorm),
    "graphnorm": _with(norm=GraphNorm),
    "instancenorm": _with(norm=partial(GraphNorm, mean_scale=False)),
    "pairnorm": _with(norm=PairNorm),
    "pairnorm-si": _with(norm=partial(PairNorm, individually=True)),
    "pairnorm-scs": _with(norm=PairNormSCS),
    "meansub": _with(norm=MeanSubtraction),
    "diffgroup": _with(norm=DiffGroupNorm),
    "nodenorm": _with(norm=NodeNorm),
    "contranorm": _with(norm=ContraNorm),
    "dropout": _dropping("dropout", Dropout),
    "dropedge": _dropping("drop_edge", DropEdge),
    "dropnode": _dropping("dropout", DropNode),
    "dropmessage": _drop_message,
    "decay": _decay,
    "decay-parts": _decay_parts,
    "residual": _with(skip=Residual),
    "linear-residual": _with(skip=partial(Residual, linear=True)),
    "norm-after": _with(norm_after_skip=True),
    "ffn": _with(feed_forward=FeedForward),
    "dense": _dense,
    "initial": _initial,
    "gcnii": _gcnii,
    "jk-cat": _with(jump=JumpingKnowledge.cat),
    "jk-max": _with(jump=JumpingKnowledge.max),
    "jk-lstm": _jk_lstm,
    "gru": _with(encoder=True, skip=GRUUpdate, activation=nn.Identity),
    "skipnode": _skip_node,
    "g2": _gradient_gating,
    "reversible": _with(reversible=2),
    "shared": _share,
    "lowrank": _smaller(lambda conv, plan: low_rank(conv, max(1, plan.width // 8))),
    "grouped": _smaller(lambda conv, plan: block_diagonal(conv, 4)),
    "channel": _smaller(lambda conv, plan: circulant(conv, 9)),
    "skipinit": _with(norm=SkipInit, skip=Residual),
    "variance": _lsuv,
    "layerwise": partial(_layerwise, end_to_end=False),
    "layerwise-tuned": partial(_layerwise, end_to_end=True),
    "appnp": partial(_propagate, readout=lambda plan: APPNP(plan.depth, alpha=plan.alpha)),
    "dagnn": partial(_propagate, readout=lambda plan: DAGNN(plan.out_feats, plan.depth)),
    "sdrf": _rewire(partial(sdrf, num_edges=NEW_EDGES)),
    "fosr": _rewire(partial(fosr, num_edges=NEW_EDGES)),
    "gtr": _rewire(partial(gtr, num_edges=NEW_EDGES_GTR)),
    "k-hop": _rewire(partial(add_k_hop_edges, k=2)),
    "virtual-node": _rewire(add_virtual_node),
}


def make_plan(
    conv: str | Kind,
    remedy: str,
    depth: int,
    widths: tuple[int, int, int],
    drop: float = 0.5,
    weight_decay: float = 5e-4,
    alpha: float = 0.1,
    lam: float = 0.5,
) -> Plan:
    """The plan of a convolution under one remedy, or several joined by ``+``, applied in this order.

    Args:
        conv: a name of `CONVS`, or a kind of convolution
        remedy: names of `REMEDIES`, joined by ``+``
        depth: number of layers
        widths: of the input, the hidden layers and the output
        drop: probability of the remedies that drop something
        weight_decay: of the remedies that decay
        alpha: share of the first features, of the remedies that add them
        lam: lambda of identity mapping, of GCNII

    Raises:
        UsageError: for unknown names, and for remedies that cannot be combined

    Example:
        >>> from gnnlib.benchmarks.catalog.remedies import make_plan
        >>> make_plan("gcn", "pairnorm+residual", 8, (16, 32, 4)).keywords["norm"].__name__
        'PairNorm'
    """
    if isinstance(conv, str) and conv not in CONVS:
        raise UsageError(f"unknown convolution {conv!r}; expected some of: {', '.join(CONVS)}")
    kind, title = (CONVS[conv], conv) if isinstance(conv, str) else (conv, conv.title)
    plan = Plan(kind, depth, *widths, drop, weight_decay, alpha, lam)
    for name in remedy.split("+"):
        if name not in REMEDIES:
            raise UsageError(f"unknown remedy {name!r}; expected some of: {', '.join(REMEDIES)}, or several with +")
        try:
            REMEDIES[name](plan)
        except UsageError as error:
            raise UsageError(f"{title} with {remedy}: {error}") from error
    return plan
