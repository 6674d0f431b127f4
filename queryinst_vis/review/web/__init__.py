"""The page on which tracks are corrected, and the server behind it, for this machine alone."""
