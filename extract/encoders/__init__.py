"""From frames and sound to features."""
