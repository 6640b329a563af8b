"""Finished maps against references: evaluate, sample, assess."""
