"""Emotion recognition: labels of clips, predictions, and metrics (D.1)."""
