"""Scores of a model over pairs, calibrated confidence, estimates of accuracy and area."""
