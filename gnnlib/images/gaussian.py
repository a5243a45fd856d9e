"""Gaussian adjacency (Knyazev et al., 2019, arXiv:1905.02850): edge weights that decay with distance."""

from dataclasses import dataclass

import numpy as np
import torch
from scipy.spatial import KDTree
from scipy.spatial.distance import cdist
from torch import Tensor

from gnnlib._utils.calls import names_checked
from gnnlib.graph import GraphLike, new_graph
from gnnlib.ops.degrees import degree_norm

__all__ = ["GAUSSIAN", "HEAT", "KNYAZEV", "Decay", "gaussian_graph"]


@names_checked()
@dataclass(frozen=True)
class Decay:
    r"""A weight that falls off with distance,

    .. math:: a(d) = \exp\left(-\frac{d^{\,p}}{c \, \sigma^2}\right)

    The literature calls three such laws Gaussian:

    - ``GAUSSIAN``: p = 2, c = 2, the density of the normal distribution, up to its factor.
    - ``HEAT``: p = 2, c = 1, the heat kernel of Belkin and Niyogi, 2003, "Laplacian Eigenmaps for Dimensionality
      Reduction and Data Representation", with t = sigma^2; also Dwivedi et al., 2020, arXiv:2003.00982.
    - ``KNYAZEV``: p = 1, c = 1, the distance not squared, as in the code of Knyazev et al., 2019,
      arXiv:1905.02850: a Laplace kernel.

    Args:
        power: p, positive.
        factor: c, positive.

    Example:
        >>> from gnnlib.images import GAUSSIAN, HEAT, KNYAZEV
        >>> [round(float(decay(2.0, 1.0)), 4) for decay in (GAUSSIAN, HEAT, KNYAZEV)]
        [0.1353, 0.0183, 0.1353]
    """

    power: float
    factor: float

    def __call__(self, distance: np.ndarray | float, sigma: np.ndarray | float) -> np.ndarray:
        """The weight at a distance. Arrays broadcast."""
        return np.exp(-np.power(distance, self.power) / (self.factor * np.square(sigma)))

    def reach(self, weight: float, sigma: float) -> float:
        """The distance at which the weight is ``weight``, a number in (0, 1).

        Example:
            >>> from gnnlib.images import HEAT
            >>> round(HEAT.reach(float(HEAT(3.0, 2.0)), 2.0), 6)
            3.0
        """
        return float((-self.factor * sigma**2 * np.log(weight)) ** (1 / self.power))


GAUSSIAN = Decay(power=2, factor=2)
HEAT = Decay(power=2, factor=1)
KNYAZEV = Decay(power=1, factor=1)


@names_checked()
def gaussian_graph(
    pos: Tensor | np.ndarray,
    sigma: float,
    cutoff: float = 0.0,
    norm: str = "none",
    self_loops: bool = True,
    decay: Decay = GAUSSIAN,
) -> GraphLike:
    r"""The Gaussian adjacency of positions, as Knyazev et al., 2019, arXiv:1905.02850, use it on images.

    .. math:: A_{vu} = \exp\left(-\frac{\|p_u - p_v\|^2}{2 \sigma^2}\right)

    with one edge u -> v for each entry of at least ``cutoff``. ``norm`` turns A into

    - ``"none"``: A;
    - ``"right"``: :math:`D^{-1} A`, the incoming weights of every node sum to 1;
    - ``"both"``: :math:`D^{-1/2} A D^{-1/2}` of Kipf and Welling, 2017, arXiv:1609.02907 (their self-loops are here the
      entries A_vv = 1);
    - ``"left"``: :math:`A D^{-1}`, the outgoing weights sum to 1;

    where D holds the row sums of A after the cut-off (see :func:`gnnlib.ops.degrees.degree_norm`). ``decay`` sets
    another law of distance, of which several go by this name in the literature (see :class:`Decay`).

    - ``edata["weight"]``: (E,), in the dtype of the positions.
    - ``ndata["pos"]``: (N, d), the positions.

    Edges are sorted by destination, then by source. With a cut-off, memory is proportional to the number of edges, not
    to N^2.

    Args:
        pos: the positions, for example ``pixel_graph(...).ndata["pos"]``. Integers become float32.
        sigma: width, in the units of the positions (pixels, unless rescaled).
        cutoff: entries of A below it are dropped, in [0, 1); 0 keeps all N^2 pairs.
        norm: "none", "right", "left" or "both".
        self_loops: whether to keep the diagonal, A_vv = 1.
        decay: the law, by default the formula above.

    Shapes:
        - pos: (N, d), row and column in 2-d

    Raises:
        ValueError: if the positions are not (N, d) or not finite, sigma is not positive, the cut-off is outside
            [0, 1), or the norm is unknown.

    A node without edges (no self-loops, no neighbour above the cut-off) stays in the graph.

    Example:
        >>> import torch
        >>> from gnnlib.images import gaussian_graph
        >>> g = gaussian_graph(torch.tensor([[0.0, 0.0], [0.0, 1.0], [5.0, 0.0]]), sigma=1.0, cutoff=0.1)
        >>> [(int(u), int(v), round(float(a), 4)) for u, v, a in zip(*g.edges(), g.edata["weight"])]
        [(0, 0, 1.0), (1, 0, 0.6065), (0, 1, 0.6065), (1, 1, 1.0), (2, 2, 1.0)]
    """
    points = torch.as_tensor(pos).detach()
    points = points if points.is_floating_point() else points.float()
    if points.ndim != 2 or points.shape[1] == 0:
        raise ValueError(f"pos: expected shape (nodes, axes), got {tuple(points.shape)}")
    if not bool(points.isfinite().all()):
        row = int((~points.isfinite()).any(1).nonzero()[0])
        raise ValueError(f"pos: expected finite positions, got {points[row].tolist()} at node {row}")
    if not 0 < sigma < float("inf"):
        raise ValueError(f"sigma: expected a positive number, got {sigma}")
    if not 0 <= cutoff < 1:
        raise ValueError(f"cutoff: expected a number in [0, 1), got {cutoff}")
    coords = points.cpu().to(torch.float64).numpy()
    src, dst, distance = pairs(coords, decay.reach(cutoff, sigma) if cutoff else None)
    weight = decay(distance, sigma)
    keep = (weight >= cutoff) & (self_loops | (src != dst))
    graph = new_graph(src[keep], dst[keep], len(coords))
    graph = graph.to(points.device)
    graph.ndata["pos"] = points
    graph.edata["weight"] = degree_norm(graph, torch.from_numpy(weight[keep]).to(points), norm=norm, degrees="weighted")
    return graph


def pairs(points: np.ndarray, radius: float | None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Source, destination and distance of all pairs (within a radius), sorted by destination, then source."""
    if radius is None:
        dst, src = np.indices((len(points), len(points))).reshape(2, -1)
        return src, dst, cdist(points, points).ravel()
    tree = KDTree(points)
    near = tree.sparse_distance_matrix(tree, radius * (1 + 1e-9), output_type="ndarray")
    order = np.lexsort((near["j"], near["i"]))
    return near["j"][order], near["i"][order], near["v"][order]
