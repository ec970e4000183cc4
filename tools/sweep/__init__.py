"""Sweeps: grids of preference runs on one store, evaluated alike, as a table and a figure.

A grid is a TOML file (`grid.py`); the paper's Tables 5, 17 and 18 and Fig. 11 lie in `grids/`. `run.py` trains and
evaluates what is not yet there, `outcome.py` makes the table and the figure.
"""
