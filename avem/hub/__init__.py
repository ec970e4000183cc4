"""Folders in the layout of the Hugging Face hub, read for what both extraction and training need to know of them."""
