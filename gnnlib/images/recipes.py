"""Superpixel graphs as the literature makes them, by name: each recipe turns an image into its graph.

>>> from gnnlib.images import recipes
>>> g = recipes.dwivedi(np.random.default_rng(0).random((28, 28)))
>>> g.ndata["feat"].shape[1], g.out_degrees().unique().tolist()
(3, [8])

- ``knyazev``: Knyazev et al., 2019, arXiv:1905.02850, and their code. SLIC with compactness 0.25, asked for 95
  segments, then for fewer, one by one, until at most 75 come out. Features: mean intensity, then centre of mass / 28
  (the image's lengths). All pairs are joined, A = exp(-d / (0.1 pi)^2), d the distance / 28, not squared; A_vv = 0.
- ``dwivedi``: Dwivedi et al., 2020, arXiv:2003.00982, and their code. The same superpixels and features; 8 edges leave
  each node, as :class:`~gnnlib.images.edges.Strongest` chooses them. Their first 5000 training graphs are the
  validation set.
- ``dwivedi_cifar``: the same for CIFAR-10: 200 segments asked for first, at most 150, compactness 10, in Lab.
- ``monti``: like Monti et al., 2017, arXiv:1611.08402: 75 nodes. We know of no description of how theirs were cut and
  joined; here maskSLIC (Irving, 2016, arXiv:1606.09518) seeds 75 clusters, compactness 1, and leaves them whole; each
  hears its 18 nearest: 1350 edges, where the published files have 1393 on average. Feature: mean intensity.
- ``avelar``: Avelar et al., 2020, arXiv:2002.05544, and their code: SLICO (SLIC with a compactness for each region, 10
  at first), 75 asked for once. Their pixels go from 0 to 255 where ours go to 1, so here it is 10 / 255. Regions that
  touch are joined, and each to itself. Features: mean of the channels, then centroid / the image's lengths.

**The published counts.** Dwivedi et al. count 70.6 nodes and 564.5 edges a graph on MNIST, 117.6 and 941.2 on CIFAR-10,
with a scikit-image of 2018. Until May 2020 (its change #3850), SLIC measured the smallest and the largest segment it
keeps by the pixels per segment *asked for*; since, by the pixels per seed of its grid. On 28 x 28 pixels, 95 down to 65
segments all seed the same 9 x 9: then, each step merged a few more; now, all give the same superpixels, until 64 seed
7 x 7. :class:`~gnnlib.images.segments.SLIC` sets scikit-image's arguments so that it does as it did; nor is the image
stretched to 0..1, as scikit-image does since 0.19. On the 70000 images of MNIST ``dwivedi`` has 70.57 nodes and 564.5
edges. On the first 500 for testing it has 70.09 and 560.8 (the plain call 64.94 and 519.5), ``monti`` 75 and 1350,
``avelar`` 79.6 and 402.6 with its self-loops. CIFAR-10 was not counted.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from gnnlib._platform.dgl import dgl
from gnnlib.images._image import Image, parse_image
from gnnlib.images._regions import Regions
from gnnlib.images.edges import Edges, Nearest, Strongest, Touching, Within
from gnnlib.images.gaussian import KNYAZEV
from gnnlib.images.segments import SLIC, MaskSLIC
from gnnlib.images.superpixels import graph_from_arrays, region_arrays, with_label_map

__all__ = ["Recipe", "avelar", "dwivedi", "dwivedi_cifar", "knyazev", "monti"]


@dataclass(frozen=True)
class Recipe:
    """How images become graphs: segmentation, features, edges. Call it with an image.

    Args:
        segment: the segmentation, a function from values (H, W, C) to labels (H, W).
        edges: the rule that joins regions.
        features: as for :func:`~gnnlib.images.superpixels.graph_from_labels`.
        self_loops: join each node to itself as well.

    Raises: ValueError, TypeError: when called, for images as :func:`~gnnlib.images.superpixels.superpixel_graph`;
    ImportError without scikit-image.

    >>> Recipe(SLIC(4), Touching())(np.zeros((6, 6))).num_edges()
    8
    """

    segment: Callable[[np.ndarray], np.ndarray]
    edges: Edges
    features: Sequence[str] = ("mean", "place")
    self_loops: bool = False

    def __call__(self, image: Image) -> dgl.DGLGraph:
        regions = self._regions(image)
        return with_label_map(graph_from_arrays(self._arrays(regions)), regions)

    def arrays(self, image: Image) -> dict[str, np.ndarray]:
        """The graph as plain arrays, for worker processes; `gnnlib.images.graph_from_arrays` makes the graph."""
        return self._arrays(self._regions(image))

    def _regions(self, image: Image) -> Regions:
        pixels = parse_image(image, axes=2)
        return Regions.from_pixels(pixels, self.segment(pixels.values))

    def _arrays(self, regions: Regions) -> dict[str, np.ndarray]:
        return region_arrays(regions, self.edges, self.features, self.self_loops)


_MNIST = SLIC(95, max_segments=75, compactness=0.25)
knyazev = Recipe(_MNIST, Within(sigma=0.1 * math.pi, decay=KNYAZEV, relative=True))
dwivedi = Recipe(_MNIST, Strongest(8))
dwivedi_cifar = Recipe(SLIC(200, max_segments=150, compactness=10.0), Strongest(8))
monti = Recipe(MaskSLIC(75, compactness=1.0), Nearest(18), ("mean",))
avelar = Recipe(SLIC(75, compactness=10 / 255, slic_zero=True), Touching(), self_loops=True)
