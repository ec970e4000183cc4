"""From a step to its loss."""
