"""Superpixel graphs of the literature, by name. A recipe is called with an image and returns its graph.

- ``knyazev``: Knyazev et al., 2019, arXiv:1905.02850, and their code. SLIC with compactness 0.25; the requested number
  of segments falls from 95, one by one, until at most 75 result. Features: mean intensity, then centre of mass / 28
  (the image's lengths). Complete graph, A = exp(-d / (0.1 pi)^2), d the distance / 28, not squared; A_vv = 0.
- ``dwivedi``: Dwivedi et al., 2020, arXiv:2003.00982, and their code. The same superpixels and features; 8 edges leave
  each node, as :class:`~gnnlib.images.Strongest` defines. Their first 5000 training graphs are the validation set.
- ``dwivedi_cifar``: the same for CIFAR-10: 200 segments requested at first, at most 150, compactness 10, in Lab.
- ``monti``: like Monti et al., 2017, arXiv:1611.08402: 75 nodes. We know of no description of their segmentation and
  edges; here maskSLIC (Irving, 2016, arXiv:1606.09518) with 75 clusters, compactness 1, and in-edges from the 18
  nearest superpixels: 1350 edges, while the published files have 1393 on average. Feature: mean intensity.
- ``avelar``: Avelar et al., 2020, arXiv:2002.05544, and their code: SLICO (SLIC with a compactness for each region, 10
  at first), 75 segments requested once. Their pixels are in 0..255 and ours in 0..1, so the value here is 10 / 255.
  Region adjacency graph with self-loops. Features: mean of the channels, then centroid / the image's lengths.

**Published counts.** Dwivedi et al. report 70.6 nodes and 564.5 edges per graph on MNIST, 117.6 and 941.2 on CIFAR-10,
with scikit-image of 2018. Until May 2020 (its change #3850), SLIC derived the smallest and largest segment size from
the pixels per *requested* segment; since then, from the pixels per seed of its grid. On 28 x 28 pixels, requests of 95
down to 65 all start from the same 9 x 9 seeds: earlier versions merged a few more segments at each step, later ones
give the same superpixels for all of them, until 64 starts from 7 x 7. :class:`~gnnlib.images.SLIC` passes arguments to
scikit-image that restore the earlier behaviour, without the stretch to 0..1 that scikit-image applies since 0.19. On
the 70000 images of MNIST ``dwivedi`` has 70.57 nodes and 564.5 edges. On the first 500 test images it has 70.09 and
560.8 (the plain call 64.94 and 519.5), ``monti`` 75 and 1350, ``avelar`` 79.6 and 402.6 with its self-loops. CIFAR-10
was not counted.

Example:
    >>> import numpy as np
    >>> from gnnlib.images import recipes
    >>> g = recipes.dwivedi(np.random.default_rng(0).random((28, 28)))
    >>> g.ndata["feat"].shape[1], g.out_degrees().unique().tolist()
    (3, [8])
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from inspect import isfunction

import numpy as np

from gnnlib._utils.calls import names_checked
from gnnlib.graph import GraphLike
from gnnlib.images._image import Image, as_array, parse_image, with_channels
from gnnlib.images._regions import Feature, Regions
from gnnlib.images.edges import EdgeRule, Nearest, Strongest, Touching, Within
from gnnlib.images.gaussian import KNYAZEV
from gnnlib.images.segments import SLIC, MaskSLIC
from gnnlib.images.superpixels import graph_from_arrays, region_arrays, with_label_map

__all__ = ["Recipe", "avelar", "dwivedi", "dwivedi_cifar", "knyazev", "monti"]


@names_checked()
@dataclass(frozen=True)
class Recipe:
    """How images become graphs: segmentation, features, edges. Call it with an image.

    Functions must be importable: defined with ``def`` at the top of a module. So a worker process can import them, and
    a store or a saved model can name them. A lambda can be none of them.

    Args:
        segment: the segmentation, a function from values (H, W, C) to labels (H, W).
        edges: the rule that joins regions.
        features: as for :func:`~gnnlib.images.graph_from_labels`.
        self_loops: whether to add an edge from each node to itself.
        channels: 1 or 3: grey pictures and pictures in colour are converted to this number first. None: no conversion.

    Raises:
        ValueError: if ``channels`` is another number.
        TypeError: if segmentation or edges cannot be called, or a function cannot be imported, such as a lambda.
        ValueError: when called, as :func:`~gnnlib.images.superpixel_graph`.
        TypeError: when called, as :func:`~gnnlib.images.superpixel_graph`.
        ImportError: when called, if scikit-image is not installed.

    Example:
        >>> import numpy as np
        >>> from gnnlib.images import SLIC, Touching
        >>> from gnnlib.images.recipes import Recipe
        >>> Recipe(SLIC(4), Touching())(np.zeros((6, 6))).num_edges()
        8
        >>> def extent(regions):
        ...     return regions.area / regions.label_map.size
        >>> Recipe(SLIC(4), Touching(), ("mean", extent))(np.zeros((6, 6))).ndata["feat"].tolist()
        [[0.0, 0.25], [0.0, 0.25], [0.0, 0.25], [0.0, 0.25]]
    """

    segment: Callable[[np.ndarray], np.ndarray]
    edges: EdgeRule
    features: Sequence[Feature] = ("mean", "place")
    self_loops: bool = False
    channels: int | None = field(default=None, repr=False)  # a store's header names it only where it is set

    def __post_init__(self) -> None:
        if self.channels not in (None, 1, 3):
            raise ValueError(f"Recipe: expected channels of None, 1 or 3, got {self.channels!r}")
        for name, part in (("segment", self.segment), ("edges", self.edges)):
            if not callable(part) or isinstance(part, type):
                got = f"the class {part.__name__}; write {part.__name__}(...)" if isinstance(part, type) else repr(part)
                raise TypeError(f"Recipe: expected {name} to be a function or a rule, got {got}")
        for function in self.functions():
            if "<" in function.__qualname__:
                name = function.__qualname__
                got = "a lambda" if function.__name__ == "<lambda>" else f"{name}, defined in a function"
                raise TypeError(
                    "Recipe: expected functions that can be imported, defined with def at the top of a module, "
                    f"got {got}"
                )

    def __call__(self, image: Image) -> GraphLike:
        regions = self.regions(image)
        return with_label_map(graph_from_arrays(self.region_arrays(regions)), regions)

    def functions(self) -> Iterator[Callable]:
        """The functions among segmentation, edges and features, also those within a ``functools.partial``."""
        for part in (self.segment, self.edges, *self.features):
            while isinstance(part, partial):
                part = part.func
            if isfunction(part):
                yield part

    def regions(self, image: Image) -> Regions:
        """The regions of an image."""
        image = image if self.channels is None else with_channels(as_array(image), self.channels)
        pixels = parse_image(image, axes=2)
        return Regions.from_pixels(pixels, self.segment(pixels.values))

    def arrays(self, image: Image) -> dict[str, np.ndarray]:
        """The graph as plain arrays, for worker processes and :func:`~gnnlib.images.graph_from_arrays`."""
        return self.region_arrays(self.regions(image))

    def region_arrays(self, regions: Regions) -> dict[str, np.ndarray]:
        """The graph of the regions, as :meth:`arrays`."""
        return region_arrays(regions, self.edges, self.features, self.self_loops)


_MNIST = SLIC(95, max_segments=75, compactness=0.25)
knyazev = Recipe(_MNIST, Within(sigma=0.1 * math.pi, decay=KNYAZEV, relative=True))
dwivedi = Recipe(_MNIST, Strongest(8))
dwivedi_cifar = Recipe(SLIC(200, max_segments=150, compactness=10.0), Strongest(8))
monti = Recipe(MaskSLIC(75, compactness=1.0), Nearest(18), ("mean",))
avelar = Recipe(SLIC(75, compactness=10 / 255, slic_zero=True), Touching(), self_loops=True)
