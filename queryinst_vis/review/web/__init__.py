"""The web page for correcting tracks, and its local server."""
