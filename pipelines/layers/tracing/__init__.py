"""Polygons of label maps of any size: blocks are traced, then scenes are put together."""
