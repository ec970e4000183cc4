"""Where shards are filled: one device, several, or a Ray cluster."""
