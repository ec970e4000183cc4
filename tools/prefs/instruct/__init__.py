"""Instruction rows for supervised tuning (D.2): written by a model, or made of data that is there already."""
