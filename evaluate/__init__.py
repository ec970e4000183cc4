"""Benchmarks: questions in, judged answers, numbers with their uncertainty, and a report out."""
