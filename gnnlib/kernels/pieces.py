"""Connected components of label maps, with a smallest and a largest size. On the CPU only."""

import numpy as np

from gnnlib.kernels.cpu.compile import jit

__all__ = ["connected_pieces"]


@jit
def _pieces(labels, smallest, largest):
    depth, height, width = labels.shape
    row, plane = width + 2, (width + 2) * (height + 2)
    framed = np.full((depth + 2, height + 2, width + 2), -1)  # a border of -1: all neighbours are inside
    framed[1:-1, 1:-1, 1:-1] = labels
    label = framed.ravel()
    piece = np.full(label.size, -1)
    pixels = np.empty(labels.size, np.int64)  # of the current piece, in the order of the search
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
    """The connected pieces of a label map, numbered in the order of their first pixels, and their number.

    The last step of SLIC (Achanta et al. 2012), as in scikit-image: a piece is filled from its first pixel, breadth
    first, until it has ``largest`` pixels; the remaining pixels of its region start another piece. A piece of fewer
    than ``smallest`` pixels joins the neighbour met last, or the first piece if it met none.

    Args:
        labels: integers from 0
        smallest, largest: sizes in pixels

    Shapes:
        - labels: (H, W) or (D, H, W)
        - output: as labels, int64, 0 to the number of pieces - 1

    Returns:
        The map of pieces, and their number.
    """
    shape = labels.shape
    piece, count = _pieces(labels.reshape((1,) * (3 - labels.ndim) + shape), smallest, largest)
    return piece.reshape(shape), count
