"""The UCI digits: 1797 handwritten digits of 8x8 pixels that scikit-learn ships, without a download."""

import numpy as np
import torch

from gnnlib._utils.calls import names_checked

__all__ = ["digits"]


@names_checked()
def digits(train: bool = True) -> tuple[torch.Tensor, torch.Tensor]:
    """The test part of the UCI digits (Alpaydin and Kaynak 1998), as shipped by scikit-learn, in one fixed split.

    The images are shuffled with seed 0, sorted by class, and every fourth is a test image: 1347 training and 450 test
    images, stratified to within one image per class. The shuffle uses numpy's RandomState, whose stream is the same in
    all releases.

    Args:
        train: the 1347 training images, else the 450 test images.

    Returns:
        images (n, 8, 8), float32, rows from the top, 0 background to 1 ink in steps of 1/16; labels (n,), int64,
        0 to 9.

    Raises:
        ImportError: if scikit-learn is not installed.

    Example:
        >>> from gnnlib.datasets import digits
        >>> images, labels = digits()
        >>> images.shape, float(images.max()), labels.bincount().tolist()
        (torch.Size([1347, 8, 8]), 1.0, [133, 137, 132, 138, 135, 137, 136, 134, 130, 135])
    """
    from sklearn.datasets import load_digits

    bunch = load_digits()
    order = np.random.RandomState(0).permutation(len(bunch.target))
    order = order[np.argsort(bunch.target[order], kind="stable")]
    is_test = np.arange(len(order)) % 4 == 0
    index = np.sort(order[is_test != train])
    images = torch.from_numpy(bunch.images[index]).float() / 16
    return images, torch.from_numpy(bunch.target[index]).long()
