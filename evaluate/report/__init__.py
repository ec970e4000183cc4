"""Reports: one HTML file on what benches found, or on training runs."""
