"""Inspecting, validating and editing annotation files: the functions of ``queryinst-vis data``."""
