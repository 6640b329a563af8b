"""Rasters through GDAL: opened, header, bands and nodata, pixels by windows."""
