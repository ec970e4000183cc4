"""The demo: the whole chain on a controlled corpus with small models, and the same report as a real run."""
