"""One work unit in one process: the unit, its model, its GPU."""
