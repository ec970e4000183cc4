"""Predictions: models over a store, over media files, behind an endpoint, or answers from a file."""
