"""Encoded images to arrays, strictly."""
