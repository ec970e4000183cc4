"""Shared prefixes: the tree, and attention over it."""

from avem.transformers_ready import ready_transformers

ready_transformers()
