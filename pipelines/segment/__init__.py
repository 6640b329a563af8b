"""The pipeline of `segment`: options, sizes, inputs, launch and graph."""
