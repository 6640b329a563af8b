"""What there is to label: patterns, listings, the web and the catalogue."""
