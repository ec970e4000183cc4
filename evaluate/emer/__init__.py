"""EMER (D.1): descriptions of emotion, graded by a judge model after a rubric."""
