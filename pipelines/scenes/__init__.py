"""Scenes: blocks, assembly, zones, overlaps and their results."""
