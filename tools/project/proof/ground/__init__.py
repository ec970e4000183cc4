"""What every run of the proof stands on: scenes, rows, encoders, features and bases."""
