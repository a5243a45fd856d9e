"""How DGL, PyTorch and MKL are packaged, and what that requires."""
