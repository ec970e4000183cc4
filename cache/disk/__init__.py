"""The store's files: layout, shards, rows, manifest, ledger and locks."""
