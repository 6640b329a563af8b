"""Training pairs as shards: written by `pack`, read by `train`."""
