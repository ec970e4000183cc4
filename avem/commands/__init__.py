"""One file per command; each parses, calls one library function and shows the result."""
