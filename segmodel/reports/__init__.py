"""Charts, panels, model cards and comparisons."""
