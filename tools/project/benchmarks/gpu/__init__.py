"""One run that measures avem on a GPU and writes the tables of `docs/performance.md`.

Run it as `python -m avem.tools.project.benchmarks.gpu`; it takes eight minutes at most.
"""
