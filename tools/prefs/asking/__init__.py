"""Requests to models: the engine, its journal, batch files and cost estimates."""
