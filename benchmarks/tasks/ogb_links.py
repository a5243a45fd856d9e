"""The Open Graph Benchmark's tasks on links: drugs, authors, proteins, papers, vessels, and two knowledge graphs."""

from typing import ClassVar

from gnnlib.benchmarks.tasks.base import Options
from gnnlib.benchmarks.tasks.link_data import LinkData, of_ogb
from gnnlib.benchmarks.tasks.links import EMBEDDING, Links


class OGBLinks(Links):
    """With OGB's loader, split and metric; learned embeddings where nodes have no features."""

    width = 256
    num_layers = 3
    lr = 0.001
    validation_links: ClassVar[bool] = False  # whether the rules allow links of the validation part in the test
    label_uses: ClassVar[tuple[str, ...]] = ()

    def load(self, options: Options) -> None:
        super().load(options)
        self.loaded = of_ogb(self.name, options.data, validation_links="validation" in (options.labels or ""))

    def data_of(self, seed: int) -> LinkData:
        return self.loaded


class DDI(OGBLinks):
    name = "ogbl-ddi"
    summary = "ogbl-ddi, 4267 drugs and their interactions: Hits@20; learned embeddings (--decoder D, --negatives N)"
    metric = "test Hits@20"
    num_layers = 2
    lr = 0.005
    epochs = 200
    remedy = "dropout"


class Collab(OGBLinks):
    name = "ogbl-collab"
    summary = "ogbl-collab, 235868 authors: Hits@50 (--labels validation: with the validation links in the test)"
    metric = "test Hits@50"
    epochs = 400
    label_uses = ("validation",)


class PPA(OGBLinks):
    name = "ogbl-ppa"
    summary = "ogbl-ppa, 576289 proteins and their associations: Hits@100 (--mode M, --decoder D, --scores A+B)"
    metric = "test Hits@100"
    modes = ("sampled", "full")
    lr = 0.01
    epochs = 20


class Citation2(OGBLinks):
    name = "ogbl-citation2"
    summary = "ogbl-citation2, 2927963 papers: mean reciprocal rank of citations (--mode M, --decoder D, --negatives N)"
    metric = "test MRR"
    modes = ("sampled", "full")
    negatives = ("source", "uniform")
    lr = 0.0005
    epochs = 50


class Vessel(OGBLinks):
    name = "ogbl-vessel"
    summary = "ogbl-vessel, 3538495 points of blood vessels: ROC-AUC (--mode M, --negatives given)"
    metric = "test ROC-AUC"
    modes = ("sampled", "full")
    negatives = ("uniform", "source", "given")
    epochs = 20


class KnowledgeGraph(OGBLinks):
    """Triples, each ranked among others with another tail and with another head. The encoder gets messages along all
    triples, in both directions, whatever their relation; by default there is none, as in OGB's baselines."""

    metric = "test MRR"
    layers = (EMBEDDING,)
    modes = ("full",)
    decoders = ("complex", "distmult")
    negatives = ("source", "uniform")
    pair_scores = ()
    num_negatives = 8
    batch_size = 16384


class WikiKG2(KnowledgeGraph):
    name = "ogbl-wikikg2"
    summary = "ogbl-wikikg2, 2500604 entities of Wikidata, 535 relations: mean reciprocal rank (--decoder D)"


class BioKG(KnowledgeGraph):
    name = "ogbl-biokg"
    summary = "ogbl-biokg, 93773 biomedical entities of five types, 51 relations: mean reciprocal rank (--decoder D)"
