"""Data sets of annotated images and videos, from files to training batches."""
