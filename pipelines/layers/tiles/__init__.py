"""Label maps as mosaics, and as web tiles in one archive."""
