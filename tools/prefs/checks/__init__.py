"""Checks on rows: faults, leaks, and what text alone gives away."""
