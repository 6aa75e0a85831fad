"""Heads whose priors are boxes."""
