"""Ranking metrics of link prediction, as of the Open Graph Benchmark: Hits@K and the mean reciprocal rank."""

from torch import Tensor

from gnnlib._utils.calls import names_checked
from gnnlib.nn._arguments import integer

__all__ = ["hits_at_k", "mean_reciprocal_rank"]


@names_checked(y_pred_pos="positive=", y_pred_neg="negative=", K="k=")
def hits_at_k(positive: Tensor, negative: Tensor, k: int) -> float:
    """Hits@K: the share of links whose score is above the K-th highest score of the pairs without a link (Hu et al.
    2020, arXiv 2005.00687, section 4.4). All links are ranked among the same pairs.

    Differs from OGB's evaluator: that returns 1 for fewer pairs than K.

    Args:
        positive: scores of links
        negative: scores of pairs without a link
        k: a rank, from 1 to the number of these pairs

    Shapes:
        - positive: (n,)
        - negative: (m,)

    Returns:
        A number from 0 to 1.

    Raises:
        ValueError: if a shape is wrong, there is no link, or k is below 1 or above the number of pairs

    Example:
        >>> import torch
        >>> from gnnlib.train import hits_at_k
        >>> hits_at_k(torch.tensor([0.9, 0.5]), torch.tensor([0.8, 0.6, 0.1]), k=2)
        0.5
    """
    k = integer("hits_at_k", "k", k)
    _check("hits_at_k", positive, negative, 1)
    if k > len(negative):
        raise ValueError(f"hits_at_k: expected k <= the number of negatives, {len(negative)}, got {k}")
    return (positive > negative.topk(k).values[-1].to(positive.device)).double().mean().item()


@names_checked(y_pred_pos="positive=", y_pred_neg="negative=")
def mean_reciprocal_rank(positive: Tensor, negative: Tensor) -> float:
    """Mean reciprocal rank (MRR) of links, each among its own pairs without a link (Hu et al. 2020, arXiv 2005.00687,
    section 4.4). The rank among equal scores is the middle one, as in OGB's evaluator.

    Args:
        positive: scores of links
        negative: scores of pairs without a link, a row for each link

    Shapes:
        - positive: (n,)
        - negative: (n, m)

    Returns:
        A number from 0 to 1.

    Raises:
        ValueError: if a shape is wrong, or there is no link

    Example:
        >>> import torch
        >>> from gnnlib.train import mean_reciprocal_rank
        >>> mean_reciprocal_rank(torch.tensor([0.9, 0.5]), torch.tensor([[0.8, 0.1], [0.6, 0.1]]))
        0.75
    """
    _check("mean_reciprocal_rank", positive, negative, 2)
    score = positive[:, None]
    above, from_it_on = (negative > score).sum(1), (negative >= score).sum(1)
    return (1 / (1 + 0.5 * (above + from_it_on))).double().mean().item()


def _check(owner: str, positive: Tensor, negative: Tensor, dim: int) -> None:
    shapes = tuple(positive.shape), tuple(negative.shape)
    if len(shapes[0]) != 1 or len(shapes[1]) != dim or not shapes[0][0] or (dim == 2 and shapes[0] != shapes[1][:1]):
        expected = "(m,)" if dim == 1 else "(n, m)"
        raise ValueError(f"{owner}: expected scores (n,) and {expected} with n >= 1, got {shapes[0]} and {shapes[1]}")
    for name, scores in (("positive", positive), ("negative", negative)):
        if bool(scores.isnan().any()):
            raise ValueError(f"{owner}: expected {name} scores that are numbers, got nan")
