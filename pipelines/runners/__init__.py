"""Runners of Beam: run a graph, Dataflow, the portable worker."""
