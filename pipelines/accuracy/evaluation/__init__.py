"""Label maps of a run against what is true: what `evaluate` does."""
