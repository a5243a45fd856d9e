"""Wrong inputs of a first hour: each gets one sentence that says what to write, and no internals of Python or torch."""

import importlib
import inspect
import pkgutil
import re
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

import gnnlib
from gnnlib import (
    BatchNorm,
    DropEdge,
    DropMessage,
    DropNode,
    ECConv,
    GATConv,
    GCNConv,
    GNNLayer,
    GraphStore,
    JumpingKnowledge,
    MeanReadout,
    PairNorm,
    Residual,
    SAGEConv,
    Stack,
    save_model,
)
from gnnlib._platform.dgl import HAS_DGL, dgl
from gnnlib.analysis import diagnose
from gnnlib.grid import from_torch
from gnnlib.images import SLIC, superpixel_graph
from gnnlib.large import clusters, layerwise_inference, sampled_batches
from gnnlib.testing.graphs import random_graph
from gnnlib.train import Batch, evaluate, fit, predict

G = random_graph(11, 23)
X, WEIGHT = torch.randn(11, 3), torch.rand(23)
LABEL = torch.arange(11) % 2
HETERO = dgl.heterograph({("user", "rates", "item"): ([0], [1]), ("item", "by", "user"): ([1], [0])})


def labelled(**columns):
    graph = random_graph(11, 23)
    graph.ndata.update({"feat": X, "label": LABEL} | columns)
    return graph


def build(conv=GCNConv, *sizes, **options):
    return Stack.build(conv, *(sizes or (3, 4, 2, 2)), **options)


def train(data=None, loss=None, optimizer=None, epochs=1, model=None, **options):
    return fit(model or build(), labelled() if data is None else data, loss, optimizer, epochs, **options)


def sample(x=X, target=LABEL, nodes=None, fanouts=(2, 2), batch_size=2, **options):
    """The first batch of samples."""
    options |= {"generator": torch.Generator()}
    nodes = torch.arange(4) if nodes is None else nodes
    return next(sampled_batches(G, x, target, nodes, fanouts=fanouts, batch_size=batch_size, **options))


def store(labels=(0, 1, 0)):
    graphs = [random_graph(11, 23) for _ in range(3)]
    for graph in graphs:
        graph.ndata["feat"] = torch.rand(graph.num_nodes(), 3)
    return GraphStore(graphs, labels=labels)


NET = nn.Sequential(nn.Conv2d(1, 2, 3))
CONV, STACK, LAYER = GCNConv(3, 2), build(), GNNLayer(GCNConv(3, 3), norm=PairNorm())

GRAPHS = {
    "floats": np.zeros((2, 5)),
    "rows": torch.zeros(5, 2).long(),
    "typed": HETERO,
    "number": 5,
    "string": "cora",
    "list": [G, G],
    "dictionary": {"graph": G},
}
TAKES_GRAPH = {
    "layer": lambda graph: CONV(graph, X),
    "GNNLayer": lambda graph: LAYER(graph, X),
    "PairNorm": lambda graph: PairNorm()(graph, X),
    "GraphNorm": lambda graph: gnnlib.GraphNorm(3)(graph, X),
    "MeanReadout": lambda graph: MeanReadout(3)(graph, X),
    "readout_mean": lambda graph: gnnlib.readout_mean(graph, X),
    "DropEdge": lambda graph: DropEdge(0.5)(graph, WEIGHT),
    "DropMessage": lambda graph: DropMessage(CONV)(graph, X),
    "APPNP": lambda graph: gnnlib.APPNP(2)(graph, X),
    "VirtualNode": lambda graph: gnnlib.VirtualNode([LAYER], 3)(graph, X),
    "diagnose": lambda graph: diagnose(STACK, graph, X),
    "from_graph": lambda graph: Batch.from_graph(graph),
    "store": lambda graph: GraphStore([graph]),
}
WRONG = {
    # Stack.build
    "norm module": (lambda: build(norm=BatchNorm(4)), "norm=BatchNorm"),
    "norm of layer widths": (lambda: build(norm=True), "norm to be a class"),
    "norm name": (lambda: build(norm="batchnrm"), "'batchnorm'"),
    "skip module": (lambda: build(skip=Residual(4, 4)), "skip=Residual"),
    "skip flag": (lambda: build(skip=True), "skip to be a class"),
    "skip name": (lambda: build(skip="gcnii"), "'residual'"),
    "activation": (lambda: build(activation="rely"), "'relu'"),
    "activation with parameters": (lambda: build(activation=nn.PReLU()), "activation=PReLU"),
    "activation number": (lambda: build(activation=1), "activation to be a class"),
    "dropout above 1": (lambda: build(dropout=50), "probability dropout"),
    "dropout name": (lambda: build(dropout="dropnode"), "probability or a module such as DropNode"),
    "drop_edge negative": (lambda: build(drop_edge=-0.5), "probability drop_edge"),
    "drop_edge of nodes": (lambda: build(drop_edge=DropNode(0.5)), "DropNode as dropout="),
    "drop_edge of features": (lambda: build(drop_edge=nn.Dropout(0.5)), "Dropout as dropout="),
    "dropout of edges": (lambda: build(dropout=DropEdge(0.5)), "DropEdge as drop_edge="),
    "dropout of messages": (lambda: build(dropout=DropMessage), "DropMessage(GCNConv(i, o), 0.5)"),
    "jump class": (lambda: build(jump=JumpingKnowledge), "JumpingKnowledge.cat"),
    "jump name": (lambda: build(jump="mean"), "'jk-cat'"),
    "readout name": (lambda: build(readout="average"), "'mean'"),
    "readout flag": (lambda: build(readout=True), "MeanReadout"),
    "head module": (lambda: build(head=nn.Linear(4, 2)), "Stack(blocks, head=...)"),
    "encoder class": (lambda: build(encoder=nn.Linear), "encoder to be True, False or a module"),
    "conv module": (lambda: build(GCNConv(3, 4)), "conv=GCNConv"),
    "conv name": (lambda: build("gcn"), "conv=GCNConv or another, and no string"),
    "edge features of a stack": (lambda: build(edge_feats=4), "partial(GINEConv, edge_feats=...)"),
    "list of graphs": (lambda: build()([G, G, G], X), "gnnlib.graph.batch(graphs)"),
    "conv with heads": (lambda: build(dgl.nn.GATConv), "lambda i, o: GATConv(i, o // 4, num_heads=4)"),
    "conv with heads by name": (
        lambda: build(partial(GATConv, num_heads=2)),
        "lambda i, o: GATConv(i, o // 2, num_heads=2)",
    ),
    "conv with edges": (lambda: build(ECConv), "partial(ECConv, edge_feats="),
    "conv of torch": (lambda: build(nn.Linear), "conv(graph, x)"),
    "conv twice": (lambda: Stack.build(GCNConv, 3, 4, 2, 2, conv=GCNConv), "once"),
    "norm with groups": (lambda: build(norm=nn.GroupNorm), "partial(GroupNorm, num_channels=...)"),
    "norm without width": (lambda: build(norm=lambda: PairNorm()), "norm(feats)"),
    "activation function": (lambda: build(activation=lambda x: x.relu()), "activation"),
    "readout of dgl": (lambda: build(readout=dgl.mean_nodes), "MeanReadout"),
    "readout class of dgl": (lambda: build(readout=dgl.nn.AvgPooling), "readout(in_feats)"),
    "skip of unequal widths": (lambda: build(skip=gnnlib.InitialResidual), "encoder=True"),
    "no conv": (lambda: build(None), "GCNConv"),
    "sizes missing": (lambda: Stack.build(GCNConv, 3, 4), "got no out_feats, num_layers"),
    "sizes as list": (lambda: build(GCNConv, 3, [4, 4], 2, 2), "integer hidden_feats"),
    "sizes as float": (lambda: build(GCNConv, 3.0, 4, 2, 2), "integer in_feats"),
    "no layers": (lambda: build(GCNConv, 3, 4, 2, 0), "num_layers >= 1"),
    "reversible flag": (lambda: build(reversible=True), "integer reversible"),
    # Stack and GNNLayer
    "stack of a class": (lambda: Stack([GCNConv]), "GNNLayer(GCNConv(3, 4))"),
    "stack of one": (lambda: Stack(GNNLayer(GCNConv(3, 4))), "Stack([block])"),
    "stack of activations": (lambda: Stack([GCNConv(3, 4), nn.ReLU()]), "GNNLayer(conv, activation="),
    "stack of nothing": (lambda: Stack(None), "Stack([block])"),
    "layer norm name": (lambda: GNNLayer(GCNConv(3, 4), norm="batchnorm"), "norm=BatchNorm(16)"),
    "layer of torch": (lambda: GNNLayer(nn.Linear(3, 4)), "conv(graph, x)"),
    "no layer": (lambda: GNNLayer(None), "GCNConv(8, 16)"),
    "stack of names": (lambda: Stack(["gcn"]), "modules"),
    "layer class": (lambda: GNNLayer(GCNConv), "conv to be a module"),
    "layer norm class": (lambda: GNNLayer(GCNConv(3, 4), norm=BatchNorm), "norm to be a module"),
    "layer without argument": (lambda: GCNConv(3), "got no out_feats"),
    "layer of a string": (lambda: GCNConv("3", 4), "integer in_feats"),
    # features and edges
    "x numpy": (lambda: STACK(G, X.numpy()), "torch.from_numpy(x)"),
    "x numpy in a layer": (lambda: CONV(G, X.numpy()), "torch.from_numpy(x)"),
    "x float64": (lambda: STACK(G, X.double()), "x.to(torch.float32)"),
    "x float64 in an encoder": (lambda: build(encoder=True)(G, X.double()), "x.to(torch.float32)"),
    "x float64 in a layer": (lambda: GATConv(3, 2, 2)(G, X.double()), "x.to(torch.float32)"),
    "model float64": (lambda: build().double()(G, X), "x.to(torch.float64)"),
    "x integers": (lambda: STACK(G, torch.ones(11, 3).long()), ".float()"),
    "x list": (lambda: STACK(G, X.tolist()), "x to be a tensor"),
    "x of other nodes": (lambda: STACK(G, X[:5]), "(11, ..., 3)"),
    "x too wide": (lambda: STACK(G, torch.ones(11, 5)), "(11, ..., 3)"),
    "x too wide for an encoder": (lambda: build(encoder=True)(G, torch.ones(11, 5)), "(..., 3)"),
    "x before graph": (lambda: STACK(X, G), "the graph first, and then x"),
    "no x": (lambda: STACK(G), "got no x"),
    "edge features": (lambda: STACK(G, X, torch.rand(23, 4)), "GINEConv"),
    "edge of others": (lambda: build(lambda i, o: GATConv(i, o // 2, 2))(G, X, torch.rand(7)), "(23,)"),
    "edge under another name": (lambda: STACK(G, X, edge_weight=WEIGHT), "edge values as edge"),
    # fit
    "model class": (lambda: fit(GCNConv, labelled()), "model"),
    "loss class": (lambda: train(loss=nn.CrossEntropyLoss), "CrossEntropyLoss()"),
    "loss and optimizer swapped": (lambda: train(None, torch.optim.Adam(build().parameters())), "outputs and targets"),
    "loss name": (lambda: train(loss="mse"), "loss to be a function"),
    "optimizer name": (lambda: train(optimizer="adam"), "optimizer to be"),
    "scheduler name": (lambda: train(scheduler="cosine"), "scheduler to be"),
    "epochs": (lambda: train(epochs=1.5), "integer epochs"),
    "clip": (lambda: train(clip=-1.0), "clip above 0"),
    "scheduler without its arguments": (
        lambda: train(scheduler=torch.optim.lr_scheduler.StepLR),
        "partial(StepLR, step_size=...)",
    ),
    "loss of one argument": (lambda: train(loss=lambda y: y.sum()), "loss(outputs, targets)"),
    "callback": (lambda: train(on_epoch=5), "on_epoch to be a function"),
    "measure": (lambda: train(measure={"a": 1.0}), "measure to be a function"),
    "score number": (lambda: train(score=0.5), "score to be a function"),
    "checkpoint number": (lambda: train(checkpoint=5), "the path of its file"),
    "device name": (lambda: train(device="gpu"), "'cuda'"),
    "device name of a batch": (lambda: Batch(G, X, LABEL).to("gpu"), "'cuda'"),
    "best of no epochs": (lambda: train(epochs=0).best, "one epoch or more"),
    "evaluate without targets": (lambda: evaluate(build(), labelled(label=LABEL - 2)), "none of 11"),
    "boolean classes": (lambda: train(labelled(label=LABEL.bool())), "labels.long()"),
    "nodes of labels": (lambda: gnnlib.large.mask_labels(LABEL, "train"), "integers or a boolean mask"),
    "metrics number": (lambda: train(val=labelled(), metrics=5), "list of names"),
    "clip as text": (lambda: train(clip="1"), "clip above 0"),
    "no patience": (lambda: train(val=labelled(), patience=0), "patience >= 1"),
    "optimizer of another model": (
        lambda: train(None, None, torch.optim.Adam(build().parameters())),
        "model.parameters()",
    ),
    "scheduler of another optimizer": (
        lambda: train(scheduler=torch.optim.lr_scheduler.StepLR(torch.optim.Adam(build().parameters()), 1)),
        "scheduler of this optimizer",
    ),
    "val as loss": (lambda: fit(build(), labelled(), Batch(G, X, LABEL)), "outputs and targets"),
    "patience without score": (lambda: train(patience=5), "val= or score="),
    "score name": (lambda: train(val=labelled(), score="acc"), "val_accuracy"),
    "task": (lambda: train(task="classification"), "'multiclass'"),
    "metric": (lambda: train(val=labelled(), metrics=["auc"]), "roc_auc"),
    "class weights": (lambda: train(class_weight=[1.0, 2.0, 3.0]), "class_weight of 2 numbers"),
    "class weight name": (lambda: train(class_weight="equal"), "'balanced'"),
    "too few outputs": (lambda: train(labelled(label=LABEL + 5)), "out_feats >= 7"),
    "float classes": (lambda: train(labelled(label=LABEL.float())), "labels.long()"),
    "fractions as classes": (lambda: train(labelled(label=torch.rand(11)), task="multiclass"), "whole numbers"),
    "labels of graphs for nodes": (lambda: train(Batch(G, X, LABEL[:5])), "(5, C)"),
    "one-hot classes": (lambda: train(labelled(label=nn.functional.one_hot(LABEL))), "task='multilabel'"),
    "no features": (lambda: train(G), "feature="),
    "other feature name": (lambda: train(labelled(), feature="h"), "['feat', 'label']"),
    "no labels": (lambda: train(labelled(), label="y"), "label="),
    "no edge features": (lambda: train(labelled(), edge="w"), "graph.edata['w']"),
    "data tensor": (lambda: train(X), "Batch.from_graph"),
    "data string": (lambda: train("cora"), "a graph, a GraphStore"),
    "data number": (lambda: train(5), "a graph, a GraphStore"),
    "data set": (lambda: train(torch.utils.data.TensorDataset(X, LABEL)), "GraphStore"),
    "generator": (lambda: train(batch for batch in [Batch(G, X, LABEL)]), "lambda"),
    "empty list": (lambda: train([]), "one batch or more"),
    "loader of tensors": (lambda: train([(X, LABEL)]), "pair (graph, targets)"),
    "rows out of range": (lambda: Batch.from_graph(labelled(), rows=[11]), "numbers from -11 to 10"),
    "mask of another length": (lambda: Batch.from_graph(labelled(), rows=torch.ones(5).bool()), "mask of shape (11,)"),
    "mask name": (lambda: Batch.from_graph(labelled(), rows="train"), "rows="),
    "edge for a plain model": (
        lambda: train(Batch(G, X, LABEL, WEIGHT), model=nn.Sequential(nn.Linear(3, 2))),
        "no edge values",
    ),
    "predict of nothing": (lambda: predict(STACK, []), "one batch or more"),
    "evaluate without data": (lambda: evaluate(STACK, None), "a graph, a GraphStore"),
    "targets of all rows": (lambda: train(Batch(G, X, LABEL, rows=torch.arange(5))), "target[rows]"),
    "targets of all rows of a mask": (lambda: train(Batch(G, X, LABEL, rows=LABEL > 0)), "target[rows]"),
    "readout for nodes": (lambda: train(model=build(readout="mean")), "target for each graph"),
    "readout for rows of nodes": (
        lambda: train(Batch(G, X, LABEL[:5], rows=torch.arange(5)), model=build(readout="mean")),
        "1 outputs of the model, one for each graph",
    ),
    "readout for a mask of nodes": (
        lambda: train(Batch(G, X, LABEL[LABEL > 0], rows=LABEL > 0), model=build(readout="mean")),
        "a mask of 11 rows",
    ),
    "no readout for graphs": (lambda: train(store()), "readout=MeanReadout"),
    "loss of torch on other targets": (lambda: train(loss=nn.BCEWithLogitsLoss()), "BCEWithLogitsLoss takes"),
    "class weights of names": (lambda: train(class_weight={0: 1.0, 1: 2.0}), "[1.0, 2.0]"),
    "class weights of evaluate": (lambda: evaluate(build(), labelled(), class_weight="balanced"), "[1.0, 2.0]"),
    "val share": (lambda: train(val=0.2), "val to be"),
    "learning rate": (lambda: train(lr=0.1), "partial(torch.optim.Adam, lr=...)"),
    "criterion": (lambda: train(criterion=nn.CrossEntropyLoss()), "loss="),
    "batch size": (lambda: train(batch_size=4), "store.loader("),
    "option of fit": (lambda: train(shuffle=True), "arguments among model, data"),
    "fit without data": (lambda: fit(build()), "got no data"),
    "metric by position": (lambda: evaluate(build(), labelled(), "accuracy"), "by name"),
    "split of evaluate": (lambda: evaluate(build(), labelled(), split="test"), "rows=...)"),
    "mask of predict": (lambda: predict(STACK, labelled(), mask=LABEL > 0), "rows=mask)"),
    "columns of a batch": (lambda: Batch.from_graph(labelled(), feat="x"), "feature="),
    "batch without graph": (lambda: Batch.from_graph(), "got no graph"),
    "features that are no numbers": (
        lambda: evaluate(build(SAGEConv), labelled(feat=torch.full((11, 3), torch.nan))),
        "nan in 11 of 11 rows",
    ),
    # strings and columns in place of tensors
    "x name": (lambda: CONV(G, "feat"), "graph.ndata['feat']"),
    "x columns": (lambda: CONV(G, G.ndata), "graph.ndata['feat']"),
    "edge name": (lambda: CONV(G, X, "weight"), "graph.edata['weight']"),
    "labels name": (lambda: diagnose(STACK, G, X, "label"), "graph.ndata['label']"),
    "labels in floating point": (lambda: diagnose(STACK, G, X, LABEL.float()), "labels.long()"),
    # large graphs
    "PyG's neighbours": (lambda: sample(num_neighbors=[2, 2]), "fanouts="),
    "one fanout": (lambda: sample(fanouts=10), "[10, 10]"),
    "fanout name": (lambda: sample(fanouts=["5", 5]), "integer fanouts"),
    "batches of nothing": (lambda: sample(batch_size=0), "batch_size >= 1"),
    "no generator": (lambda: sampled_batches(G, X, LABEL, LABEL, fanouts=[2], batch_size=2), "got no generator"),
    "sampled x name": (lambda: sample(x="feat"), "graph.ndata['feat']"),
    "sampled x of others": (lambda: sample(x=X[:5]), "x of 11 rows"),
    "sampled targets of others": (lambda: sample(target=LABEL[:5]), "target of 11 rows"),
    "sampled parts": (lambda: sample(nodes={"train": LABEL}), "'train'"),
    "inference without x": (lambda: layerwise_inference(build(), G), "got no x"),
    "inference swapped": (lambda: layerwise_inference(build(SAGEConv), X, G), "the graph first, and then x"),
    "inference x name": (lambda: layerwise_inference(build(SAGEConv), G, "feat"), "graph.ndata['feat']"),
    "number of parts": (lambda: clusters(G, num_parts=3), "num_clusters="),
    "no number of clusters": (lambda: clusters(G), "got no num_clusters"),
    # analysis
    "summary without graph": (lambda: gnnlib.summary(STACK), "got no graph"),
    "diagnose without x": (lambda: diagnose(STACK, G), "got no x"),
    "labels under another name": (lambda: diagnose(STACK, G, X, y=LABEL), "labels="),
    "walks under another name": (lambda: gnnlib.random_walk_encoding(G, walk_length=3), "k="),
    "no number of eigenvectors": (lambda: gnnlib.laplacian_encoding(G), "got no k"),
    # conversion and files
    "segments as text": (lambda: SLIC("20"), "num_segments"),
    "class of a network": (lambda: from_torch(nn.Conv2d, (1, 8, 8)), "the class Conv2d"),
    "images as input_size": (lambda: from_torch(NET, torch.rand(2, 1, 8, 8)), "(1, 8, 8)"),
    "no input_size": (lambda: from_torch(NET), "got no input_size"),
    "one side as input_size": (lambda: from_torch(NET, 8), "(3, 32, 32)"),
    "model saved as path": (lambda: save_model("folder", STACK), "a folder"),
    "state dict saved": (lambda: save_model(STACK.state_dict(), "folder"), "torch.nn.Module"),
    "model without folder": (lambda: save_model(STACK), "got no folder"),
    "codes of one size": (lambda: gnnlib.one_hot(LABEL[:, None], 2), "sizes to be a list"),
    "standardize without data": (lambda: gnnlib.Standardize.fit(STACK), "got no data"),
    "stratify by name": (lambda: store().split((0.6, 0.4), stratify="label"), "True or False"),
    # data sets
    "PyG's ratio of links": (lambda: gnnlib.datasets.link_split(G, 0, val_ratio=0.1), "val="),
    "links without seed": (lambda: gnnlib.datasets.link_split(G), "got no seed"),
    "links of a tensor": (lambda: gnnlib.datasets.link_split(X, 0), "the graph first"),
    "seed as text": (lambda: gnnlib.datasets.link_split(G, "seed"), "integer seed"),
    "all links held out": (lambda: gnnlib.datasets.link_split(G, 0, val=0.5, test=0.5), "leave some links"),
    "number of links": (lambda: gnnlib.datasets.link_split(G, 0, val=10), "val >= 0 and <= 1"),
    "planted by name": (lambda: gnnlib.datasets.planted("big"), "integer num_nodes"),
    "planted by fraction": (lambda: gnnlib.datasets.planted(1000.5), "integer num_nodes"),
    "planted too small": (lambda: gnnlib.datasets.planted(10), "80 nodes or more"),
    "citation network": (lambda: gnnlib.datasets.planetoid("Citeser"), "citeseer"),
    "PyG's root": (lambda: gnnlib.datasets.planetoid(root="data", name="Cora"), "data="),
    "molecules": (lambda: gnnlib.datasets.tu("tu/ENZYMES"), "such as MUTAG"),
    # readouts, batches, acceleration
    "readout without x": (lambda: gnnlib.readout_mean(G), "got no x"),
    "readout of a name": (lambda: gnnlib.readout_max(G, "feat"), "graph.ndata['feat']"),
    "readout of numpy": (lambda: gnnlib.readout_flat(G, X.numpy()), "torch.from_numpy(x)"),
    "batch without x": (lambda: Batch(G), "Batch.from_graph(graph)"),
    "batch without target": (lambda: Batch(G, X), "Batch.from_graph(graph)"),
    "PyG's y": (lambda: Batch(G, X, y=LABEL), "target="),
    "standardize without mean": (lambda: gnnlib.Standardize(STACK), "Standardize.fit(model, data)"),
    "accelerate a graph": (lambda: gnnlib.accelerate(G), "verbose to be True or False"),
    "part of a data set": (lambda: gnnlib.datasets.digits("test"), "train to be True or False"),
    "part of a data set by name": (lambda: gnnlib.datasets.digits(train="test"), "train to be True or False"),
    "number as a flag": (lambda: train(progress=1), "progress to be True or False"),
    "checkpoint of nothing": (lambda: gnnlib.train.Checkpoint(None), "the path of a file"),
    "accelerate a layer": (lambda: gnnlib.accelerate(CONV, G, X), "verbose by position"),
    "metric that was not computed": (lambda: evaluate(build(), labelled())["acc"], "accuracy, f1, roc_auc"),
    "column of a history": (lambda: train()["acc"], "epoch, loss"),
    "virtual node of one layer": (lambda: gnnlib.VirtualNode(CONV, 3), "VirtualNode([block])"),
    "virtual node of a class": (lambda: gnnlib.VirtualNode([GCNConv], 3), "GNNLayer(GCNConv(3, 4))"),
    "reversible layers": (lambda: gnnlib.Reversible([GCNConv(3, 3)]), "ReversibleBlock([part, part])"),
    "one reversible part": (lambda: gnnlib.ReversibleBlock(GCNConv(3, 3)), "ReversibleBlock([block])"),
    "scikit-image's name": (lambda: SLIC(n_segments=20), "num_segments="),
    "scikit-image's name in a function": (
        lambda: superpixel_graph(np.zeros((8, 8)), n_segments=4),
        "num_segments=",
    ),
    "compactness as text": (lambda: SLIC(20, compactness="low"), "positive compactness"),
    # stores
    "parts one by one": (lambda: store().split(0.8, 0.1, 0.1), "stratify= by name"),
    "store of one graph": (lambda: GraphStore(G), "[graph]"),
    "store of a tensor": (lambda: GraphStore(X), "list of graphs"),
    "labels of strings": (lambda: store(["a", "b", "c"]), "numbers of the classes"),
    "labels of others": (lambda: store([0, 1]), "one for each of 3 graphs"),
    "split": (lambda: store().split((0.5, 0.1)), "sum 1"),
    "split by one number": (lambda: store().split(0.8), "sum 1"),
    "split into nothing": (lambda: store().split((0.9, 0.05, 0.05)), "a graph or more in each part"),
    "split by numbers": (lambda: store([0.5, 1.0, 2.0]).split((0.4, 0.3, 0.3), stratify=True), "class for each graph"),
    "graphs out of range": (lambda: store()[[3]], "numbers from -3 to 2"),
    "graphs by floats": (lambda: store()[[0.5]], "integers or a boolean mask"),
    "graphs by name": (lambda: store()["a"], "number"),
    # diagnose
    "train out of range": (lambda: diagnose(STACK, G, X, LABEL, train=[11]), "numbers from -11 to 10"),
    "train by name": (lambda: diagnose(STACK, G, X, LABEL, train="train"), "integers or a boolean mask"),
    "test without train": (lambda: diagnose(STACK, G, X, LABEL, test=[1]), "train"),
    "labels of another length": (lambda: diagnose(STACK, G, X, LABEL[:5]), "labels"),
    "x of diagnose": (lambda: diagnose(STACK, G, X.numpy()), "torch.from_numpy"),
    "layers swapped": (lambda: diagnose(G, STACK, X), "model"),
}

INTERNALS = re.compile(
    r"positional argument|NoneType|has no attribute|object is not|mat1|__\w+__|unsupported operand|not subscriptable"
    r"|unexpected keyword|must be Tensor|found in|Traceback|numpy\.core|aten::|same dtype|type promotion"
)


def sentence(call):
    """The message of the error of a call, which is one sentence without internals."""
    with pytest.raises((TypeError, ValueError, IndexError, KeyError)) as error:
        call()
    message = error.value.args[0]
    assert "\n" not in message
    assert len(message) < 400
    assert "expected" in message, message
    assert "got" in message, message
    assert not INTERNALS.search(message), message
    return message


def public_names():
    """Every function and class that a package exports, with its path."""
    packages = [info.name for info in pkgutil.walk_packages(gnnlib.__path__, "gnnlib.") if info.ispkg]
    needs_dgl = () if HAS_DGL else ("gnnlib.compat.dgl_nn",)
    apart = "gnnlib.kernels", "gnnlib.benchmarks", "gnnlib._", *needs_dgl
    user = [name for name in packages if not name.startswith(apart)]
    for module in map(importlib.import_module, ["gnnlib", *user]):
        for name in getattr(module, "__all__", ()):
            value = getattr(module, name)
            made_here = getattr(value, "__module__", "").startswith("gnnlib") and module.__name__ != "gnnlib.testing"
            if inspect.isclass(value) and module.__name__ == "gnnlib.compat.pyg_nn":
                continue  # subclasses of PyG's layers, whose constructors and errors are PyG's
            if made_here and (inspect.isfunction(value) or inspect.isclass(value)):
                yield f"{module.__name__}.{name}", value


CALLABLE = {
    path: value
    for path, value in public_names()
    if not (inspect.isclass(value) and issubclass(value, (Exception, dict)))
}


@pytest.mark.parametrize("path", CALLABLE)
def test_missing_unknown_and_too_many_arguments(path):
    """Of everything that is public: the function is named, and what it takes."""
    function = CALLABLE[path]
    parameters = inspect.signature(function).parameters.values()
    kinds = {parameter.kind for parameter in parameters}
    name = path.rpartition(".")[2]
    if any(p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD) for p in parameters):
        assert sentence(function).startswith(f"{name}: expected ")
    if inspect.Parameter.VAR_KEYWORD not in kinds:
        message = sentence(lambda: function(no_such_argument=1))
        assert message.startswith(f"{name}: expected ")
        assert message.endswith(("got no_such_argument=", "got no_such_argument"))
    if inspect.Parameter.VAR_POSITIONAL not in kinds:
        assert sentence(lambda: function(*[None] * 50)).endswith("got 50 arguments by position")


PLAUSIBLE = {
    "graph": G,
    "x": X, "y": X, "z": X, "feat": X[:, None], "a": X, "b": X, "features": X, "inputs": X, "values": X[:, 0],
    "score": WEIGHT, "basis": torch.rand(23, 2), "weight": torch.rand(2, 3, 4), "kernel": torch.rand(1, 1, 3, 3),
    "att": torch.rand(3), "att_src": torch.rand(1, 3), "att_dst": torch.rand(1, 3), "prob": torch.rand(11, 2),
    "label": LABEL, "labels": LABEL, "target": LABEL, "nodes": torch.arange(4), "node": 3, "mask": LABEL > 0,
    "keep": LABEL > 0, "cluster": LABEL, "size": 2.0, "k": 2, "hops": 2, "num_clusters": 2, "num_classes": 2, "seed": 0,
    "etype": "_E",
    "batch_size": 2, "fanouts": [2], "generator": torch.Generator(), "device": "cpu", "folder": "no/such/folder",
    "model": Stack([SAGEConv(3, 2)]), "layer": CONV, "image": np.zeros((8, 8)),
    "src": torch.arange(2), "dst": torch.arange(2), "num_edges": 2, "rewired": G, "u": LABEL, "v": LABEL,
}  # fmt: skip
INTERNAL = {"as_dgl", "graph_index", "set_adjacency_factory", "with_message_dropout"}
OR_LABEL_MAPS = {"paint", "show_regions", "show_values"}
FUNCTIONS_OF_GRAPHS = {
    function.__name__: function
    for function in CALLABLE.values()
    if inspect.isfunction(function)
    and "graph" in inspect.signature(function).parameters
    and function.__name__ not in INTERNAL | OR_LABEL_MAPS
}


@pytest.mark.parametrize("graph", ["floats", "rows", "number", "string", "dictionary"])
@pytest.mark.parametrize("name", FUNCTIONS_OF_GRAPHS)
def test_every_public_function_says_what_a_graph_is(name, graph, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    function = FUNCTIONS_OF_GRAPHS[name]
    required = [p.name for p in inspect.signature(function).parameters.values() if p.default is p.empty]
    arguments = {parameter: PLAUSIBLE[parameter] for parameter in required if parameter != "graph"}

    def call():
        result = function(**arguments, graph=GRAPHS[graph])
        next(result)  # of a generator

    message = sentence(call)
    assert re.search(r"graph|edge_index|edge types", message), message
    assert not any(tmp_path.iterdir())


FUNCTIONS_OF_FEATURES = {
    name: function for name, function in FUNCTIONS_OF_GRAPHS.items() if "x" in inspect.signature(function).parameters
}
NO_FEATURES = {
    "name": "feat",
    "columns": G.ndata,
    "list": X.tolist(),
    "nothing": None,
    "number": 5,
    "graph": G,
    "of other nodes": X[:5],
}


@pytest.mark.parametrize("kind", NO_FEATURES)
@pytest.mark.parametrize("name", FUNCTIONS_OF_FEATURES)
def test_every_public_function_says_what_features_are(name, kind):
    function = FUNCTIONS_OF_FEATURES[name]
    required = [p.name for p in inspect.signature(function).parameters.values() if p.default is p.empty]
    arguments = {parameter: PLAUSIBLE[parameter] for parameter in required} | {"x": NO_FEATURES[kind]}

    def call():
        result = function(**arguments)
        next(result)  # of a generator

    message = sentence(call)
    assert re.search(r"\bx\b|features|graphs of|rows|edata", message), message


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_input_is_one_sentence_that_says_what_to_write(case):
    call, write = WRONG[case]
    message = sentence(call)
    assert write in message, message


@pytest.mark.parametrize("graph", GRAPHS)
@pytest.mark.parametrize("place", TAKES_GRAPH)
def test_whatever_is_no_graph_is_refused_with_what_is_one(place, graph):
    message = sentence(lambda: TAKES_GRAPH[place](GRAPHS[graph]))
    assert re.search(r"graph|edge_index|edge types", message), message


def test_a_loss_that_is_not_finite_says_why_and_leaves_the_parameters():
    model, x = build(), X.clone()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    x[3] = torch.inf
    with pytest.raises(
        FloatingPointError, match="epoch 1: expected finite features, got nan or inf in 1 of the 11 rows"
    ):
        train(labelled(feat=x), model=model)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    with pytest.raises(FloatingPointError, match=r"epoch 1: try a lower learning rate$"):
        train(loss=lambda y, target: y.sum() / 0, model=model)
    next(model.parameters()).data.fill_(torch.nan)
    with pytest.raises(FloatingPointError, match="build the model anew"):
        train(model=model)
