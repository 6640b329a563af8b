"""The end of a run: totals, failures, contact sheet and verification."""
