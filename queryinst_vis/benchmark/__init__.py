"""Throughput of a model, from network input to written video, and relative to the machine's peak.

The entry point is ``speed.benchmark``.
"""
