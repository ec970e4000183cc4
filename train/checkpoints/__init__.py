"""Checkpoints of every layout: loading and merging."""
