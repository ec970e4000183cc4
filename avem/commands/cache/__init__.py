"""`avem cache`: everything that inspects or changes a feature store."""
