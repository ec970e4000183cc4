"""Preference rows to and from other trainers and datasets, one file a format."""
