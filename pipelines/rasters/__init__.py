"""Scenes: opened in stores and on the web, areas of interest, Cloud Optimized GeoTIFFs."""
