"""The proof: the claims of the paper, judged on a corpus in which every cue is known."""
