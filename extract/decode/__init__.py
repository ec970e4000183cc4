"""From a media file to frames and sound."""
