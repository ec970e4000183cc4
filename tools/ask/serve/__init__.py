"""`avem serve`: a page on this machine on which one drops a clip and asks."""
