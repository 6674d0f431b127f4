"""General utilities: atomic files, progress bars, threads, devices, images."""
