"""`avem bench`: models on benchmarks."""
