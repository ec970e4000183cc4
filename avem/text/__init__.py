"""Text for terminals, pages and tables: escaped at each boundary, without secrets."""
