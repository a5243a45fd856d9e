"""How each paper trains on the citation graphs."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from torch import nn

from gnnlib import DropNode, GATConv, GNNLayer, Stack, mean_heads
from gnnlib.models import GCNII, SGC, APPNPNet, DAGNNNet, GfNN, JKNet
from gnnlib.nn.drop import Dropout

Build = Callable[[int, int], Stack]  # from the number of features and of classes
Record = dict[str, float]  # of an epoch


def lowest_loss(record: Record) -> float:
    """Kipf and Welling stop on the validation loss."""
    return -record["validation loss"]


def best_accuracy(record: Record) -> tuple[float, float]:
    """Velickovic et al. stop on the validation accuracy and loss."""
    return record["validation"], -record["validation loss"]


def last(record: Record) -> float:
    """Wu et al. train a fixed number of epochs."""
    return record["epoch"]


@dataclass(frozen=True)
class PublishedTraining:
    """Adam, weight decay by the names of parameters (`decay_groups`), and which epoch's weights count.

    hops: made on the features once, before training
    words: whether features come as `words`, to a model that begins with dropout and a linear layer
    draws: how many the `ConsistencyLoss` compares; 1 for cross-entropy alone
    """

    build: Build
    lr: float = 0.01
    decay: Mapping[str, float] = field(default_factory=lambda: {"*": 5e-4})
    epochs: int = 200
    patience: int | None = None
    score: Callable[[Record], Any] = lowest_loss
    hops: int = 0
    words: bool = False
    draws: int = 1


def two_layers(make: Callable[[int, int], nn.Module]) -> PublishedTraining:
    """Kipf and Welling 2017, section 5.2, with any layer: 16 wide, the first layer decayed."""

    def build(in_feats: int, out_feats: int) -> Stack:
        return Stack.build(make, in_feats, 16, out_feats, num_layers=2, dropout=0.5)

    return PublishedTraining(build, decay={"blocks.0.*": 5e-4})


def _gat(out_heads: int, in_feats: int, out_feats: int) -> Stack:
    return Stack(
        [
            GNNLayer(GATConv(in_feats, 8, 8, attn_drop=0.6), activation=nn.ELU(), dropout=Dropout(0.6)),
            GNNLayer(GATConv(64, out_feats, out_heads, attn_drop=0.6), dropout=Dropout(0.6), merge=mean_heads),
        ]
    )


def _build(model: Callable[..., Stack], hidden: int, **arguments: Any) -> Build:
    return lambda in_feats, out_feats: model(in_feats, hidden, out_feats, **arguments)


def _dropping_nodes(build: Build) -> Build:
    """GRAND drops whole nodes (Feng et al. 2020, arXiv 2005.11079); here their first hidden features."""

    def dropping(in_feats: int, out_feats: int) -> Stack:
        model = build(in_feats, out_feats)
        model.encoder.append(DropNode(0.5))  # type: ignore[union-attr, operator]
        return model

    return dropping


# Where a recipe differs from its paper's, what was tried is named, and the choice made by mean validation accuracy of
# two or three seeds, unless said otherwise; no test accuracy had a say.
RECIPES = {
    "gat": PublishedTraining(partial(_gat, 1), 0.005, epochs=1000, patience=100, score=best_accuracy),
    # Wu et al. 2019 tune the decay. This one: of 1e-6, 5e-6, 1.3e-5, 2e-5, 5e-5, 1e-4 and 2e-4.
    "sgc": PublishedTraining(partial(SGC, k=0), 0.2, {"*": 1.3e-5}, epochs=100, score=last, hops=2),
    # NT and Maehara 2019: 2 hops, 32 wide. Differs: a rate of 0.01 for up to 400 epochs (tried: 0.2 for 50), a decay of
    # 1e-3 (tried: 2e-4 and 5e-4), on Cora and PubMed together.
    "gfnn": PublishedTraining(
        _build(GfNN, 32, k=0), decay={"*": 1e-3}, epochs=400, patience=100, score=best_accuracy, hops=2
    ),
    # Gasteiger et al. 2019: 10 hops, alpha 0.1, 64 wide, dropout 0.5. Differs: all decayed by 1e-3 (validation 80.9),
    # where the paper decays the first layer alone by 5e-3 (80.0; with 5e-4 on the last besides 81.1, in twice the
    # epochs). Tried besides: 5e-4 and 5e-3 on all.
    "appnp": PublishedTraining(_build(APPNPNet, 64), decay={"*": 1e-3}, epochs=1500, patience=100, words=True),
    # Liu et al. 2020, for the fixed split: 64 wide, 10 hops, dropout 0.8, all decayed by 5e-3.
    "dagnn": PublishedTraining(_build(DAGNNNet, 64), decay={"*": 5e-3}, epochs=1000, patience=100, words=True),
    # Xu et al. 2018 have other splits; 16 or 32 wide, a decay of 5e-4. Tried: 2, 4 and 6 layers, cat, max and lstm,
    # dropout 0.5 and 0.8, a decay of 5e-3.
    "jknet": PublishedTraining(
        _build(JKNet, 32, num_layers=4, dropout=0.8), epochs=500, patience=100, score=best_accuracy
    ),
    # Chen et al. 2020, for the fixed split: 64 layers, 64 wide, alpha 0.1, lambda 0.5, dropout 0.6.
    "gcnii": PublishedTraining(
        _build(GCNII, 64), decay={"*": 5e-4, "blocks.*": 0.01}, epochs=1500, patience=100, words=True
    ),
    # Ours: GCNII's 64 layers with GRAND's dropped nodes and consistency of two draws, made for few labels.
    # On validation it is not told apart from an average of the weights in its place (seed 0: 83.0, 83.2).
    # Nor are four draws, as Feng et al.'s code has on Cora, in twice the time (ten seeds: validation 82.9, with two
    # draws 82.8; both test at 85.9).
    "gcnii-consistent": PublishedTraining(
        _dropping_nodes(_build(GCNII, 64, dropout=0.5)),
        decay={"*": 5e-4, "blocks.*": 0.01},
        epochs=800,
        patience=100,
        words=True,
        draws=2,
    ),
}

# As deep as the deepest stacks of the depth studies. On PubMed it validates at 82.5 (ten seeds), with 20 hops at 81.2
# (five).
RECIPES["dagnn-64"] = replace(RECIPES["dagnn"], build=_build(DAGNNNet, 64, k=64))
# The same with GRAND's dropped nodes and consistency of two draws, as GCNII above. Not validation's choice, which on
# PubMed is the one without (81.7 to 82.5, ten seeds each), but what Feng et al. find best with few labels. Tried: a
# dropout of 0.5 (80.8 to 81.5, two seeds each, whose test accuracies had been seen too).
RECIPES["dagnn-64-consistent"] = replace(RECIPES["dagnn-64"], build=_dropping_nodes(RECIPES["dagnn-64"].build), draws=2)

PUBMED = {
    **RECIPES,
    "gat": PublishedTraining(partial(_gat, 8), 0.01, {"*": 1e-3}, epochs=1000, patience=100, score=best_accuracy),
    # Of 1e-5, 3e-5, 5e-5, 7e-5, 1e-4 and 1.4e-4.
    "sgc": replace(RECIPES["sgc"], decay={"*": 7e-5}),
    # Differs: 8 hops. Mean validation accuracy of five seeds that are in no table, with a decay of 5e-4 and of 1e-3: 2
    # hops 81.4 and 81.8, 4 hops 81.8 and 81.8, 6 hops 82.6 and 82.6, 8 hops 82.8 and 82.5, 10 hops 82.8 and 82.1.
    # Tried besides: 3 and 12 hops, decays of 2e-4 (82.8 with 8 hops) and 2e-3, 64 wide, a dropout of 0.8.
    "gfnn": replace(RECIPES["gfnn"], decay={"*": 5e-4}, hops=8),
    # Gasteiger et al. 2019: the first layer decayed.
    "appnp": replace(RECIPES["appnp"], decay={"encoder.0.*": 5e-3}),
    # Liu et al. 2020: 20 hops.
    "dagnn": replace(RECIPES["dagnn"], build=_build(DAGNNNet, 64, k=20)),
    # Validation 80.3; 80.4, of one seed, with a decay of 1e-3. Tried besides: 3 and 4 layers, 16 wide, max, dropout
    # 0.5.
    "jknet": replace(RECIPES["jknet"], build=_build(JKNet, 32, num_layers=2, dropout=0.8)),
    # Chen et al. 2020: 16 layers, lambda 0.4, dropout 0.5, all decayed alike. Differs: 64 wide in place of 256,
    # for the time it takes. One seed was tried.
    "gcnii": replace(RECIPES["gcnii"], build=_build(GCNII, 64, num_layers=16, lam=0.4, dropout=0.5), decay={"*": 5e-4}),
}
