"""Convolutions, normalization, activations and what is plugged in between, made of dicts."""
