"""Models behind an OpenAI-compatible endpoint: requests, replies and connections."""
