"""Model families: how one kind of released model reads streams."""

from avem.transformers_ready import ready_transformers

ready_transformers()
