"""Integration into other frameworks: a plug-in for mmdetection."""
