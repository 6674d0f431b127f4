"""Weights and training states: load, convert, download, transfer."""
