"""The vision and audio towers of Qwen2.5-Omni's and Qwen3-Omni's thinker, without its language model."""
