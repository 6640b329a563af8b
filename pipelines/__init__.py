"""Beam pipelines, storage and the run directory around `segmodel`."""
