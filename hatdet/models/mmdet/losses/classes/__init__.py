"""Losses of scores: classes, qualities, heat maps, distributions."""
