"""Emotion recognition: labels of clips, what a model says they are, and how right that is (D.1)."""
