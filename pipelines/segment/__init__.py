"""The pipeline of `segment`: options, sizes, inputs, launch, graph and run."""
