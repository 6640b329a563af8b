"""The pipeline of `pack`: image files and masks into shards, split and shuffled by hash."""
