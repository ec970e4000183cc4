"""A training run: its loop, checkpoints, directory, and what it measures."""

from avem.transformers_ready import ready_transformers

ready_transformers()
