"""Analysis of trained models: smoothing, attribution, symmetry."""
