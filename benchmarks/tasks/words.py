"""Features that are mostly 0, as a graph: a bag of words is an edge from each word to each paper it is in."""

from torch import Tensor, nn

from gnnlib import Stack, aggregate
from gnnlib.graph import GraphLike, new_bipartite


def words(feat: Tensor) -> GraphLike:
    """The graph of features (N, F): from F words to N papers, with edata ``count``."""
    paper, word = feat.nonzero(as_tuple=True)
    num_papers, num_words = feat.shape
    graph = new_bipartite(("word", "in", "paper"), word.cpu(), paper.cpu(), num_words, num_papers)
    graph.edata["count"] = feat[paper, word].cpu()
    return graph


class WordLinear(nn.Module):
    """Dropout, then a linear layer, of dense features; called on their `words`.

    Each word sends its row of the weight to the papers it is in. What is 0 is neither drawn for nor multiplied, which
    is most of a step on dense features.
    """

    def __init__(self, drop: nn.Module, linear: nn.Linear):
        super().__init__()
        self.drop, self.linear = drop, linear

    def forward(self, words: GraphLike) -> Tensor:
        count = words.edata["count"].to(self.linear.weight.device)
        return aggregate(words, self.linear.weight.T, self.drop(count)) + self.linear.bias


def on_words(model: Stack) -> Stack:
    """The same model, called on the `words` of its features. Its encoder begins with dropout and a linear layer."""
    drop, linear, *rest = model.encoder  # type: ignore[misc]
    model.encoder = nn.Sequential(WordLinear(drop, linear), *rest)
    return model
