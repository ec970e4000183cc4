"""From examples to steps: which rows share a forward pass."""
