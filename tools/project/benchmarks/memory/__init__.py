"""The estimate of a run's memory against what a real step takes.

Run it as `python -m avem.tools.project.benchmarks.memory`.
"""
