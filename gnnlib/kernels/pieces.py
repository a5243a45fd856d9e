"""Label maps cut into connected pieces of a certain size. On the CPU only."""

import numpy as np

from gnnlib.kernels.cpu.compile import jit

__all__ = ["connected_pieces"]


@jit
def _pieces(labels, smallest, largest):
    depth, height, width = labels.shape
    row, plane = width + 2, (width + 2) * (height + 2)
    framed = np.full((depth + 2, height + 2, width + 2), -1)  # so that no neighbour lies outside
    framed[1:-1, 1:-1, 1:-1] = labels
    label = framed.ravel()
    piece = np.full(label.size, -1)
    pixels = np.empty(labels.size, np.int64)  # of the piece at hand, in the order found
    count = 0
    for first in range(label.size):
        if label[first] < 0 or piece[first] >= 0:
            continue
        size, seen, beside = 1, 0, 0
        pixels[0], piece[first] = first, count
        while seen < size < largest:
            for step in (1, -1, row, -row, plane, -plane):
                near = pixels[seen] + step
                if label[near] == label[first] and piece[near] < 0:
                    pixels[size], piece[near] = near, count
                    size += 1
                    if size >= largest:
                        break
                elif piece[near] >= 0 and piece[near] != count:
                    beside = piece[near]
            seen += 1
        if size < smallest:
            piece[pixels[:size]] = beside
        else:
            count += 1
    return piece.reshape(framed.shape)[1:-1, 1:-1, 1:-1].copy(), max(count, 1)


def connected_pieces(labels: np.ndarray, smallest: int, largest: int) -> tuple[np.ndarray, int]:
    """The connected pieces of a label map, numbered in the order of their first pixels, and how many there are.

    As Achanta et al., 2012, end SLIC, and scikit-image does: a piece is filled from its first pixel, in rings, until it
    has ``largest`` pixels; what is then left of its region is another piece. One of fewer than ``smallest`` pixels goes
    to the neighbour last met, or where it met none yet, to the first piece.

    Shapes: labels (H, W) or (D, H, W), integers from 0; returns the same shape, int64, 0 to count - 1.
    """
    shape = labels.shape
    found, count = _pieces(labels.reshape((1,) * (3 - labels.ndim) + shape), smallest, largest)
    return found.reshape(shape), count
