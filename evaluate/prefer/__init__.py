"""MER2026's track 3, MER-Prefer: which of two descriptions of a clip do people prefer?"""
