"""Stores to and from other formats."""
