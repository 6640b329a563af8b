"""Areas, outlines and polygons on the ellipsoid: arrays in, arrays out."""
