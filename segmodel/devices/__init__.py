"""GPUs, the allocator, and libraries that print nothing of their own."""
