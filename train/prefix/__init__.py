"""Shared prefixes: the tree, and attention over it."""
