"""Entries for other programs: STAC items of label maps, their collection and their model."""
