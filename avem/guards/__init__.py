"""Guards: where avem may write, what it may read, and what must never be shown."""
