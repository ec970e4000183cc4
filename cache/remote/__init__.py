"""Stores behind a URL: reading many byte ranges at once, a read cache on a local disk, copying, and writing."""
