"""Probes: which modality answers depend on (Figs. 5, 13, 14, 15)."""
