"""The manifest `clips.parquet`: its columns, files, parts, index by clip id, and changing it."""
