"""Runners of Beam: run a graph, the units of a plan, Dataflow, the portable worker."""
