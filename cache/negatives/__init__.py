"""Negatives: clips of another emotion, mined with FAISS, paired and reported."""
