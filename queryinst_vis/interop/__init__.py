"""Bridges to other projects' checkpoints."""
