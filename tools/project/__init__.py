"""What serves the project rather than its users: the proof, benchmarks, and a stand-in server."""
