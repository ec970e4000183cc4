"""Model families: how one kind of released model reads streams."""
