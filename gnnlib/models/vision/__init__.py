"""The classic convolutional networks as torch modules on images (B, C, H, W); `gnnlib.grid.from_torch` takes any of
them to graphs."""
