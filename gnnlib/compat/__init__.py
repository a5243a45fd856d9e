"""Programs of other libraries, run on gnnlib's kernels."""

from gnnlib.compat._accelerate import Acceleration, accelerate

__all__ = ["Acceleration", "accelerate"]
