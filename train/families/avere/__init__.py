"""AVERE: a Video-LLaVA-7B with a speech projector."""
