"""The stream from rasters to label maps: read ahead, batch, call, stitch."""
