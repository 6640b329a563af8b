"""Layers of finished label maps: what leaves for GIS programs, browsers and surveys."""
