"""The vision and audio towers of Qwen2.5-Omni's and Qwen3-Omni's thinker, without its language model."""

from avem.transformers_ready import ready_transformers

ready_transformers()
