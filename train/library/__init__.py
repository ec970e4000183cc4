"""What `avem.prefix` gives to programs with a model of their own: scores and a TRL trainer over shared prefixes."""

from avem.transformers_ready import ready_transformers

ready_transformers()
