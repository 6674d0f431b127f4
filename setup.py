"""Kept for ``python setup.py``-minded tools; all metadata lives in pyproject.toml."""

from setuptools import setup

setup()
