"""GPUs, the allocator, and a quiet start of TensorFlow."""
