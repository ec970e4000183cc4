"""Speed benchmarks: each script measures both sides in one run and prints a table for `docs/performance.md`.

Run one as `python -m avem.tools.project.benchmarks.<name>`; `--help` lists its sizes.
"""
