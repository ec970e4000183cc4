"""The audiovisual language model: projectors, prompts, sequences, scoring and generation."""

from avem.transformers_ready import ready_transformers

ready_transformers()
