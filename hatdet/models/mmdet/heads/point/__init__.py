"""Heads whose priors are points, or that have none."""
