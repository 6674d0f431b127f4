"""Annotated images and videos, from files to training batches."""
