"""`avem ask` and `avem serve`: from media files to answers, and to what they depend on."""
