"""Number formats and kernels: how far off scores are, and what flex attention computes and compiles."""
