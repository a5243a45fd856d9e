"""Link prediction: the protocol on small data sets, what a step sees and must not see, and real Cora."""

import math

import pytest
import torch

from gnnlib import DistMult, datasets
from gnnlib._platform.dgl import HAS_DGL
from gnnlib.benchmarks.catalog.layers import LAYERS, choices
from gnnlib.benchmarks.errors import UsageError
from gnnlib.benchmarks.tasks import TASKS, Options
from gnnlib.benchmarks.tasks.link_data import Pairs, of_link_split, of_ogb
from gnnlib.benchmarks.tasks.link_model import LinkPredictor, negatives, pair_features
from gnnlib.benchmarks.tasks.link_modes import FullLinks, SampledLinks
from gnnlib.benchmarks.tasks.links import HEURISTICS, ranking
from gnnlib.graph import remove_links
from gnnlib.models import GAE, VGAE
from gnnlib.ops import common_neighbors
from tests.ogb_raw import needs_ogb, write_links

pytestmark = pytest.mark.usefixtures("one_thread")
needs_dgl = pytest.mark.skipif(not HAS_DGL, reason="needs DGL: its sampler")
MODES = ["full", pytest.param("sampled", marks=needs_dgl)]


@pytest.fixture
def loaded(twins):
    def load(name, feats=50, classes=3, **options):
        task = TASKS[f"links-{name}"]()
        task.load(Options(data=twins.planetoid(name, feats, classes), **options))
        return task

    return load


def run(task, layer, seed=0, epochs=2, **options):
    records = []
    outcome = task.run(choices(task.extra_layers)[layer], seed, Options(epochs=epochs, **options), records.append)
    assert [record["epoch"] for record in records] == list(range(1, epochs + 1))
    assert all(math.isfinite(value) for record in records for value in record.values())
    return outcome


def test_ranking_counts_pairs_in_order():
    """The area is the share of pairs of a link and a non-link in the right order; a tie counts half."""
    auc, precision = ranking(torch.tensor([3.0, 2.0]), torch.tensor([6.0, 0.5, 1.0]))
    assert auc == pytest.approx(100 * 4 / 6)
    assert precision == pytest.approx(100 * (1 / 2 + 2 / 3) / 2)


# ---------------------------------------------------------------- graph autoencoders


@pytest.mark.parametrize(("layer", "width"), [("gae", 16), ("vgae", 32)])
def test_the_papers_networks(loaded, layer, width):
    task = loaded("cora", 1433, 7)
    outcome = run(task, layer)
    assert outcome.parameters == 1433 * 32 + 32 * width, "two layers without biases"
    assert list(outcome.figures) == ["average precision, %"]
    assert 0 <= outcome.score <= 100
    assert outcome.validation == outcome.curve["validation"][-1]
    again = run(task, layer)
    assert (again.score, again.curve) == (outcome.score, outcome.curve), "the same seed, the same figures"
    assert run(task, layer, seed=1).curve != outcome.curve


def test_which_model_and_how_many_pairs(loaded):
    cora, pubmed = loaded("cora"), loaded("pubmed")
    specs = choices(cora.extra_layers)
    assert [type(cora.autoencoder(specs[name])) for name in ("gae", "vgae", "sage")] == [GAE, VGAE, GAE]
    assert cora.autoencoder(specs["gae"]).num_pairs is None
    assert pubmed.autoencoder(specs["vgae"]).num_pairs == 2**18
    assert (cora.epochs, pubmed.epochs) == (200, 300)


@pytest.mark.parametrize("layer", ["mlp", "gat", "vgae"])
def test_other_layers_and_a_sample_of_pairs(loaded, layer):
    outcome = run(loaded("pubmed"), layer)
    assert 0 <= outcome.score <= 100


def test_no_test_link_reaches_the_autoencoder(loaded):
    task = loaded("cora")
    training = task.training(choices(task.extra_layers)["gae"], 5, torch.Generator(), Options())
    ((graph, *_),) = training.batches()
    split = datasets.link_split(task.graph, 5)
    for links in (split.val, split.test):
        linked = links.linked.bool()
        for u, v in ((links.u, links.v), (links.v, links.u)):
            assert bool(task.graph.has_edges_between(u[linked], v[linked]).all())
            assert not bool(graph.has_edges_between(u, v).any())


def test_links_of_the_real_cora(data_dir):
    if not (data_dir / "planetoid" / "ind.cora.graph").is_file():
        pytest.skip(f"no real data: {data_dir}/planetoid has no cora")
    task = TASKS["links-cora"]()
    task.load(Options(data=data_dir))
    outcome = run(task, "gae", epochs=25)
    assert outcome.score > 82
    assert outcome.figures["average precision, %"] > 82
    assert LAYERS["gcn"].fits(task.geometry)


# ---------------------------------------------------------------- what a step sees


def community(num_nodes=400):
    graph, _ = datasets.planted(num_nodes)
    return of_link_split(graph, 0, "rocauc")


def mode_of(name, data, scores=(), batch_size=256):
    full = FullLinks(data, list(scores), batch_size, "cpu")
    return full if name == "full" else SampledLinks(full, (5, 5), False)


def steps(name, data, **options):
    generator = torch.Generator().manual_seed(0)
    return list(
        mode_of(name, data, **options).batches(lambda links: negatives("uniform", links, data, 1, generator), generator)
    )


def messages(batch):
    """The pairs of nodes along which there are messages, by their numbers in the graph; and the targets."""
    blocks = batch.graph if isinstance(batch.graph, list) else [batch.graph]
    pairs = set()
    for block in blocks:
        src, dst = (end.long() for end in block.edges())
        if isinstance(batch.graph, list):
            src, dst = block.srcdata["_ID"][src], block.dstdata["_ID"][dst]
        pairs |= {(u, v) for u, v in zip(src.tolist(), dst.tolist()) if u != v}
    linked = batch.target.bool()
    ends = batch.x.src[linked], batch.x.dst[linked]
    if isinstance(batch.graph, list):
        ends = tuple(blocks[-1].dstdata["_ID"][end] for end in ends)
    return pairs, set(zip(*(end.tolist() for end in ends)))


def leaks(batch):
    """The targets of a step along which it has messages, in either direction."""
    pairs, targets = messages(batch)
    return {(u, v) for u, v in targets if (u, v) in pairs or (v, u) in pairs}


@pytest.mark.parametrize("name", MODES)
def test_no_target_is_among_the_messages(name):
    data, seen = community(), set()
    for batch in steps(name, data):
        pairs, targets = messages(batch)
        assert len(pairs) > len(targets) > 0
        assert not leaks(batch)
        seen |= targets
    assert seen == set(zip(data.train.src.tolist(), data.train.dst.tolist())), "each link is a target once in an epoch"


@pytest.mark.parametrize("name", MODES)
def test_the_leak_is_found_where_targets_are_left_in(name, monkeypatch):
    """The test above fails without the removal."""
    if name == "full":
        monkeypatch.setattr("gnnlib.benchmarks.tasks.link_modes.remove_links", lambda graph, u, v: graph)
    else:
        import dgl

        original = dgl.dataloading.as_edge_prediction_sampler
        monkeypatch.setattr(
            dgl.dataloading,
            "as_edge_prediction_sampler",
            lambda sampler, exclude, reverse_eids, **options: original(sampler, **options),
        )
    assert any(leaks(batch) for batch in steps(name, community()))


def test_a_target_has_no_influence_on_its_score():
    """The embedding of a leaf does not depend on its only neighbour in the step whose target is their link."""
    data = community()
    degree = data.graph.in_degrees()
    for batch in steps("full", data):
        linked = batch.target.bool()
        for u, v in zip(batch.x.src[linked].tolist(), batch.x.dst[linked].tolist()):
            if degree[u] == 1 or degree[v] == 1:
                leaf = u if degree[u] == 1 else v
                assert batch.graph.in_degrees(leaf) == 1, "its self-loop alone"
                return
    raise AssertionError("expected a leaf")


@pytest.mark.parametrize("name", MODES)
def test_features_of_pairs_are_those_of_the_other_links(name):
    data = community()
    for batch in steps(name, data, scores=("common-neighbors", "pagerank"))[:2]:
        ends = batch.x.src, batch.x.dst
        if name == "sampled":
            ends = tuple(batch.graph[-1].dstdata["_ID"][end] for end in ends)
        assert batch.x.pair.shape == (len(batch.target), 2)
        linked = batch.target.bool()
        rest = remove_links(data.graph, ends[0][linked], ends[1][linked])
        expected = common_neighbors(rest, *ends).log1p()
        torch.testing.assert_close(batch.x.pair[:, 0], expected)
        assert not torch.equal(expected, common_neighbors(data.graph, *ends).log1p())


def test_negatives():
    data, generator = community(), torch.Generator().manual_seed(0)
    links = Pairs(data.train.src[:50], data.train.dst[:50])
    uniform = negatives("uniform", links, data, 3, generator)
    assert [len(end) for end in uniform[:2]] == [150, 150]
    source = negatives("source", links, data, 3, generator)
    assert torch.equal(source.src, links.src.repeat(3))
    vessel = data._replace(train_negatives=Pairs(torch.tensor([1, 2]), torch.tensor([3, 4])))
    drawn = negatives("given", links, vessel, 1, generator)
    assert set(zip(drawn.src.tolist(), drawn.dst.tolist())) == {(1, 3), (2, 4)}
    triples = links._replace(relation=torch.arange(50) % 3)
    other = negatives("source", triples, data, 4, generator)
    changed = (other.src != links.src.repeat(4)).int() + (other.dst != links.dst.repeat(4)).int()
    assert changed.max() == 1, "the head or the tail"
    assert torch.equal(other.relation, triples.relation.repeat(4))


def test_scores_in_chunks(monkeypatch):
    """Of single pairs, and of many candidates for each link at either end."""
    torch.manual_seed(0)
    model, z = LinkPredictor(None, DistMult(4, 3)), torch.randn(9, 4)
    u, many, relation = torch.arange(6), torch.randint(9, (6, 5)), torch.arange(6) % 3
    for pairs in (
        Pairs(u, u.flip(0), relation),
        Pairs(u[:, None], many, relation[:, None]),
        Pairs(many, u[:, None], relation[:, None]),
    ):
        scores = model.scores(z, pairs)
        with monkeypatch.context() as patch:
            patch.setattr("gnnlib.benchmarks.tasks.link_model.MAX_ENTRIES", 40)
            assert torch.equal(model.scores(z, pairs), scores)
        expected = (z[pairs.src] * z[pairs.dst] * model.decoder.relation[pairs.relation]).sum(-1)
        torch.testing.assert_close(scores, expected)


def test_features_of_many_candidates():
    data = community()
    u, many = torch.arange(4)[:, None], torch.randint(400, (4, 6))
    features = pair_features(["adamic-adar", "pagerank"], data.graph, u, many)
    assert features.shape == (4, 6, 2)
    single = pair_features(["adamic-adar", "pagerank"], data.graph, u.expand(4, 6)[:, 2], many[:, 2])
    torch.testing.assert_close(features[:, 2], single)
    assert pair_features([], data.graph, u, many) is None


# ---------------------------------------------------------------- the task


def planted(limit=800, **options):
    task = TASKS["links-planted"]()
    task.load(Options(limit=limit, **options))
    return task


@pytest.mark.parametrize("layer", [layer.name for layer in HEURISTICS])
def test_neighbourhood_scores(layer):
    """Better than chance, without parameters or epochs."""
    task = planted(1500)
    outcome = run(task, layer, epochs=0)
    assert outcome.parameters == 0
    assert outcome.figures["AUC, %"] > 52


@pytest.mark.parametrize("options", [{}, {"decoder": "bilinear", "negatives": "source"}, {"mode": "sampled"}])
@pytest.mark.skipif(not HAS_DGL, reason="needs DGL: its sampler")
def test_a_network_learns_the_links(options):
    task = planted(2000, **options)
    outcome = run(task, "gcn" if options else "sage", epochs=8, **options)
    assert outcome.figures["AUC, %"] > 60
    assert outcome.validation == max(outcome.curve["validation"])


def test_gcn_and_hadamard_beat_common_neighbours_on_a_planted_graph():
    """10000 nodes take a minute with `run links-planted`; these are fewer."""
    task = planted(3000)
    network, neighbours = run(task, "gcn", epochs=8), run(task, "common-neighbors", epochs=0)
    assert network.score > neighbours.score + 5
    assert network.figures["AUC, %"] > neighbours.figures["AUC, %"] + 5


@pytest.mark.parametrize(
    ("name", "layer", "options"),
    [
        ("cora", "gcn", {"negatives": "uniform", "decoder": "hadamard", "scores": "common-neighbors+pagerank"}),
        ("cora", "sage", {"negatives": "source", "decoder": "bilinear", "remedy": "batchnorm+residual"}),
        ("pubmed", "embedding", {"negatives": "uniform", "decoder": "dot"}),
        ("pubmed", "adamic-adar", {}),
    ],
)
def test_one_code_for_citations(loaded, name, layer, options):
    outcome = run(loaded(name, **options), layer, epochs=0 if layer == "adamic-adar" else 2, **options)
    assert 0 <= outcome.score <= 100
    assert list(outcome.figures) == ["average precision, %"]


LINKS = [name for name in TASKS if name.startswith("ogbl-")]


@needs_ogb
@pytest.mark.parametrize("name", LINKS)
def test_ogbs_tasks(name, tmp_path):
    """Each with its defaults, and the score of the test that OGB's split, candidates and metric give."""
    write_links(tmp_path, name)
    mode = None if HAS_DGL else "full"
    task = TASKS[name]()
    task.load(Options(data=tmp_path, mode=mode))
    layer = "embedding" if "kg" in name else "gcn"
    outcome = run(task, layer, data=tmp_path, mode=mode)
    assert 0 <= outcome.score <= 100
    assert outcome.validation == max(outcome.curve["validation"])
    again = run(task, layer, data=tmp_path, mode=mode)
    assert (again.score, again.curve) == (outcome.score, outcome.curve)


@needs_ogb
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("ogbl-wikikg2", {"decoder": "distmult", "negatives": "uniform"}),
        ("ogbl-biokg", {"decoder": "complex"}),
    ],
)
def test_an_encoder_of_a_knowledge_graph(name, options, tmp_path):
    write_links(tmp_path, name)
    task = TASKS[name]()
    task.load(Options(data=tmp_path, **options))
    assert 0 < run(task, "sage", **options).score <= 100


@needs_ogb
def test_candidates_of_ogb(tmp_path):
    """Heads and tails of ogbl-biokg are numbered over all types; each end is ranked."""
    write_links(tmp_path, "ogbl-biokg")
    data, (_, split, _) = of_ogb("ogbl-biokg", tmp_path), datasets.ogb_links("ogbl-biokg", tmp_path)
    first = {"disease": 0, "drug": 20, "gene": 50}
    table = split["test"]
    tails, heads = data.test
    expected = [int(head) + first[kind] for head, kind in zip(table["head"], table["head_type"])]
    assert tails.links.src.tolist() == heads.links.src.tolist() == expected == tails.src.flatten().tolist()
    expected = table["tail_neg"] + torch.tensor([first[kind] for kind in table["tail_type"]])[:, None]
    assert torch.equal(tails.dst, expected)
    assert heads.src.shape == table["head_neg"].shape
    assert (data.num_relations, data.graph.num_nodes()) == (3, 75)


@needs_ogb
def test_validation_links_in_the_test(tmp_path):
    """They carry messages in the test, and only there; no other data set allows it."""
    write_links(tmp_path, "ogbl-collab")
    plain, data = of_ogb("ogbl-collab", tmp_path), of_ogb("ogbl-collab", tmp_path, validation_links=True)
    u, v = data.valid[0].links[:2]
    assert bool(data.test_graph.has_edges_between(u, v).all())
    assert not bool(data.graph.has_edges_between(u, v).any())
    assert plain.test_graph.num_edges() == data.graph.num_edges() == data.test_graph.num_edges() - 2 * len(u)
    assert TASKS["ogbl-collab"].label_uses == ("validation",)
    assert all(not TASKS[name].label_uses for name in LINKS if name != "ogbl-collab")


@needs_ogb
def test_negatives_of_the_data_set(tmp_path):
    write_links(tmp_path, "ogbl-vessel")
    pairs = of_ogb("ogbl-vessel", tmp_path).train_negatives
    assert torch.equal(torch.stack(pairs[:2], 1), datasets.ogb_links("ogbl-vessel", tmp_path)[1]["train"]["edge_neg"])


@needs_ogb
def test_k_larger_than_the_number_of_negatives(tmp_path):
    write_links(tmp_path, "ogbl-ppa", num_negatives=99)
    task = TASKS["ogbl-ppa"]()
    task.load(Options(data=tmp_path, mode="full"))
    with pytest.raises(ValueError, match="hits_at_k: expected k <= the number of negatives, 99, got 100"):
        run(task, "common-neighbors", epochs=0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"scores": "pagerank", "negatives": "uniform"},
            "--scores: expected --decoder hadamard, which takes them, got dot",
        ),
        ({"decoder": "bilinear"}, "--negatives all: expected --decoder dot, --mode full and no remedy"),
        ({"negatives": "uniform", "remedy": "layerwise"}, "--remedy: links-cora trains networks as a whole"),
        ({"negatives": "uniform", "remedy": "fosr"}, "--remedy: links-cora trains networks on the graphs as they are"),
    ],
)
def test_options_that_cannot_be_combined(loaded, options, message):
    with pytest.raises(UsageError, match=message):
        loaded("cora", **options)
