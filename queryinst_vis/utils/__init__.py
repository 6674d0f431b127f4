"""What any program has: atomic files, progress bars, threads, devices, images."""
