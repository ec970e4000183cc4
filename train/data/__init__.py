"""From rows of a file to training examples with their rejected inputs."""
