"""Windows, layouts, resampling and seams: integers and arrays."""
