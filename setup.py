"""For Beam's --setup_file; all there is to say is in pyproject.toml."""

from setuptools import setup

setup()
