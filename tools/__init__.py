"""Programs that developers run by hand; no part of the package."""
