"""Pairs as shards: written by `pack`, read by `train`."""
