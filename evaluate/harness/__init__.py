"""EmoReAlM in other harnesses: task files for lmms-eval, VLMEvalKit and Inspect, and their logs read back."""
