"""Distributed graphs: the partition, and sampling and inference on a single part in a separate process."""

import json
import re

import pytest
import torch
from torch import nn

from gnnlib import BatchNorm, InitialResidual, JumpingKnowledge, SAGEConv, Stack
from gnnlib._platform.dgl import dgl
from gnnlib.large.partitions import (
    dist_accuracy,
    dist_batches,
    dist_inference,
    open_dist_graph,
    part_config,
    partition_graph,
)
from gnnlib.testing.graphs import communities
from gnnlib.train.loop import fit
from tests.processes import forked, needs_fork

pytestmark = needs_fork


def test_parts_contain_every_node_once_and_are_balanced(tmp_path):
    graph, split = communities()
    path = partition_graph(graph, split, 3, tmp_path, name="ours")
    config = json.loads(path.read_text())
    assert (path.name, part_config(tmp_path)) == ("ours.json", (path, config))
    ids, train, edges = [], [], []
    for part in range(3):
        local, feats, _, _, name, *_ = dgl.distributed.load_partition(str(path), part)
        inner = local.ndata["inner_node"].bool()
        ids.append(local.ndata["orig_id"][inner] if "orig_id" in local.ndata else local.ndata[dgl.NID][inner])
        train.append(int(feats["_N/train"].sum()))
        edges.append(int(local.edata["inner_edge"].sum()))
        assert name == "ours"
        assert len(feats["_N/feat"]) == inner.sum()
    assert torch.cat(ids).sort().values.tolist() == list(range(200))
    assert sum(train) == 100
    assert max(train) < 1.5 * min(train)
    assert sum(edges) == graph.num_edges()


@pytest.fixture
def one_part(tmp_path):
    """``one_part(function)`` calls it on the distributed graph, in a separate process: DGL connects a process once."""
    graph, split = communities()
    partition_graph(graph, split, 1, tmp_path / "parts")
    return lambda function: forked(lambda: function(open_dist_graph(tmp_path / "parts")), tmp_path, number=1)[0]


@pytest.mark.parametrize("encoder", [False, True])
def test_inference_equals_the_model_on_the_whole_graph(one_part, encoder):
    graph, _ = communities()
    torch.manual_seed(0)
    skip = (lambda before, after, layer: InitialResidual(before, after, layer)) if encoder else None
    model = Stack.build(SAGEConv, 4, 8, 3, num_layers=3, norm=BatchNorm, dropout=0.5, encoder=encoder, skip=skip)
    ids, outputs, training = one_part(lambda parts: (*dist_inference(model, parts, batch_size=64), model.training))
    model.eval()
    assert training
    assert ids.tolist() == list(range(200))  # one part keeps the order
    torch.testing.assert_close(outputs, model(graph, graph.ndata["feat"]).detach())


def test_batches_are_the_training_nodes_with_sampled_neighbours(one_part):
    graph, split = communities()

    def batches(parts):
        return [
            ([block.edges() for block in g], g[-1].dstdata[dgl.NID], x, target, g[0].srcdata[dgl.NID])
            for g, x, target, *_ in dist_batches(parts, fanouts=[3, 2], batch_size=32)()
        ]

    epoch = one_part(batches)
    assert [len(target) for *_, target, _ in epoch] == [32, 32, 32, 4]
    assert torch.cat([seeds for _, seeds, *_ in epoch]).sort().values.tolist() == split["train"].sort().values.tolist()
    for edges, seeds, x, target, inputs in epoch:
        assert torch.equal(target, graph.ndata["label"][seeds])
        assert torch.equal(x, graph.ndata["feat"][inputs])
        assert [int(dst.bincount().max()) for _, dst in edges] == [3, 2]


def test_training_and_accuracy(one_part):
    def learn(parts):
        dgl.seed(0)
        torch.manual_seed(0)
        model = Stack.build(SAGEConv, 4, 16, 4, num_layers=2)
        optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
        fit(
            model, dist_batches(parts, fanouts=[5, 5], batch_size=32), nn.functional.cross_entropy, optimizer, epochs=15
        )
        return model.state_dict(), dist_accuracy(model, parts, "valid", "test", batch_size=64)

    weights, (valid, test) = one_part(learn)
    graph, split = communities()
    model = Stack.build(SAGEConv, 4, 16, 4, num_layers=2)
    model.load_state_dict(weights)
    is_correct = model(graph, graph.ndata["feat"]).argmax(-1) == graph.ndata["label"]
    assert [valid, test] == pytest.approx(
        [is_correct[split[part]].double().mean().item() for part in ("valid", "test")]
    )
    assert test > 0.8  # 0.25 by chance


def test_invalid_arguments(tmp_path):
    graph, split = communities()
    with pytest.raises(ValueError, match=re.escape("expected 1 to 200 parts, one node in each, got 0")):
        partition_graph(graph, split, 0, tmp_path)
    with pytest.raises(ValueError, match=re.escape("got no ['valid', 'test']")):
        partition_graph(graph, {"train": split["train"]}, 2, tmp_path)
    with pytest.raises(ValueError, match=re.escape("expected one partitioned graph in")):
        open_dist_graph(tmp_path)
    jumping = Stack.build(SAGEConv, 4, 8, 3, num_layers=2, jump=JumpingKnowledge.cat)
    with pytest.raises(ValueError, match="expected a Stack without jump, got"):
        dist_inference(jumping, None)
