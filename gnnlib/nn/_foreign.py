"""Argument names of DGL and PyTorch Geometric, and what to write in their place.

An answer completes "expected ..., got NAME=". Of several, the first one that is an argument of the layer is taken, or
the phrase after them.
"""

from collections.abc import Collection

from gnnlib._utils.calls import EDGE_NAMES

__all__ = ["constructor_answers", "forward_answers"]

DROPOUT = "dropout around the layer, GNNLayer({layer}(...), dropout=Dropout(0.6))"
NORM = "a norm around the layer, GNNLayer({layer}(...), norm=BatchNorm({width}))"
FEATURES = "a layer with edge features, such as GINEConv or ECConv"
REDUCTION = "nothing of that name, as the reduction of this layer is fixed"
SELF_LOOPS = "self-loops in the graph, gnnlib.graph.add_self_loop(graph)"

CONSTRUCTOR: dict[tuple[str, ...], tuple[str, ...]] = {
    ("in_channels", "in_size", "in_features", "in_dim", "input_feats"): ("in_feats",),
    ("out_channels", "out_size", "out_features", "out_dim", "output_feats"): ("out_feats",),
    ("heads", "nheads", "n_heads", "num_heads"): ("num_heads", "a layer with heads, GATConv or GATv2Conv"),
    ("aggregator_type", "aggr", "aggregator", "reduce"): ("reduce", "aggregators", REDUCTION),
    ("edge_dim", "edge_feat_size", "edge_in_feats", "edge_channels", "edge_feats"): ("edge_feats", "dim", FEATURES),
    ("normalize", "normalization"): (
        "norm",
        "normalise",
        "the output normalised after the layer, torch.nn.functional.normalize(y, dim=-1)",
    ),
    ("K",): ("k", "num_kernels"),
    ("n_kernels", "kernels"): ("num_kernels",),
    ("nn", "mlp", "edge_nn"): ("apply_func", "edge_func"),
    ("init_eps",): ("eps",),
    ("train_eps",): ("learn_eps",),
    ("num_relations", "num_etypes"): ("num_rels",),
    ("num_blocks",): ("num_bases",),
    ("root_weight",): ("root", "self_loop", "the node's own features in the formula of the docstring"),
    ("deg",): ("delta",),
    ("alpha", "slope"): ("negative_slope",),
    ("dropout", "attention_dropout"): ("attn_drop", DROPOUT),
    ("feat_drop", "dropout_rate"): (DROPOUT,),
    ("norm", "batch_norm"): (NORM,),
    ("residual",): ("a skip around the layer, GNNLayer({layer}(...), skip=Residual(in_feats, {width}))",),
    ("activation", "act"): ("an activation around the layer, GNNLayer({layer}(...), activation=nn.ReLU())",),
    ("concat",): ("heads joined after the layer, y.flatten(-2) or y.mean(-2)",),
    ("allow_zero_in_degree",): ("nothing of that name, as nodes without in-edges are always served",),
    ("add_self_loops", "self_loop", "self_loops"): (SELF_LOOPS,),
    ("flow",): ("the graph reversed, gnnlib.graph.reverse(graph)",),
    ("cached",): ("nothing of that name, as what depends on the graph alone is cached on it",),
    ("num_layers",): ("a stack of layers, Stack.build({layer}, in_feats, hidden_feats, out_feats, num_layers)",),
}

FORWARD: dict[tuple[str, ...], str] = {
    ("edge_index",): "it as the first argument, conv(edge_index, x)",
    ("g",): "graph=",
    ("feat", "node_feat", "nfeat", "h"): "x=",
    ("return_attention_weights",): "get_attention=True",
    ("inputs", "x_dict"): "x=",
    ("edge_index_dict",): "graph=",
    ("mod_args", "mod_kwargs"): "edge values by edge type as edge, conv(graph, x, edge)",
    ("size",): "a pair of features, conv(edge_index, (x_src, x_dst))",
}


def constructor_answers(layer: str, names: Collection[str]) -> dict[str, str]:
    """Foreign name -> what to write for it, for a layer whose constructor has the arguments ``names``."""
    width = "num_heads * out_feats" if "num_heads" in names else "out_feats"
    answers: dict[str, str] = {}
    for foreign, choices in CONSTRUCTOR.items():
        fitting = [choice for choice in choices if choice in names or not choice.isidentifier()]
        if fitting:
            answer = f"{fitting[0]}=" if fitting[0] in names else fitting[0].format(layer=layer, width=width)
            answers.update((name, answer) for name in foreign if name not in names)
    return answers


def forward_answers(takes_edge: str | None) -> dict[str, str]:
    """Foreign name -> what to write for it when a layer is called."""
    answers = {name: answer for foreign, answer in FORWARD.items() for name in foreign}
    edge = f"edge {takes_edge}s as edge, conv(graph, x, edge)" if takes_edge else "neither edge weights nor features"
    return answers | dict.fromkeys(EDGE_NAMES[1:], edge)
