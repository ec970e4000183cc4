"""Benchmarks of `avem.prefix`, the prefix tree as a library."""
