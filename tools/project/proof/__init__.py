"""The proof: the claims of the paper, evaluated on a corpus in which every cue is known."""
