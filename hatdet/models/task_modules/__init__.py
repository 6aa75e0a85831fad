"""Priors, assigners, box coders, post-processing, preprocessing."""
