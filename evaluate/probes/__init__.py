"""Probes: what answers hang on, beside whether they are right (Figs. 5, 13, 14, 15)."""
