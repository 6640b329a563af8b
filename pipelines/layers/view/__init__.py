"""A finished run in a browser: the page, what lies at a place, and the server on this machine."""
