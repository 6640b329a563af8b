"""Scores of a model over pairs, and calibrated confidence."""
