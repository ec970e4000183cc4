"""Any causal language model of transformers with avem's projectors, in avem's own layout."""
