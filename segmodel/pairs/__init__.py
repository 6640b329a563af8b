"""Training pairs: folders, rasters, survey and crops."""
