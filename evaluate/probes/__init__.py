"""Probes: which modality answers depend on (Figs. 5, 13, 14, 15)."""

from avem.transformers_ready import ready_transformers

ready_transformers()
