"""Survey pages and the votes that come back."""
