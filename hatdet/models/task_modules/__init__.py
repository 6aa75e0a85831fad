"""Priors, assigners, box coders, preprocessing and post-processing."""
