"""The SavedModel: contract, export, predictor, halo, ensemble."""
