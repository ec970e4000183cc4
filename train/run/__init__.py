"""A training run: its loop, checkpoints, directory, and what it measures."""
