"""Preference and benchmark data: from labelled clips to questions, answers and rejected answers."""
