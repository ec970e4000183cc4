"""Emotion-LLaMA (Cheng et al., 2024): Llama 2 with a frame, three vectors of a clip and low-rank adapters."""
