"""Files and records with checksums: what was written, or a sentence."""
