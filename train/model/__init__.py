"""The audiovisual language model: projectors, prompts, sequences, scoring and generation."""
