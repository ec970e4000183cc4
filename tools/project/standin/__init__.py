"""An OpenAI-compatible server that answers from the controlled corpus."""
