"""Label maps to polygons: arrays in, arrays out."""
