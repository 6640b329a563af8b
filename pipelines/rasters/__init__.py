"""Rasters through GDAL: open, header, bands, windows and Cloud Optimized GeoTIFFs."""
