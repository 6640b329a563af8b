"""Finished label maps for other programs."""
