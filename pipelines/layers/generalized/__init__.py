"""Label maps without components below an area, and the tables of what moved."""
