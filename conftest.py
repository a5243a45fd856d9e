"""What all tests and doctests share."""

import pytest
import torch


@pytest.fixture(autouse=True)
def _seed():
    """The same draws whichever tests ran before."""
    torch.manual_seed(0)
