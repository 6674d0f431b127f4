"""Bridges into other people's programs: a plug-in for mmdetection."""
