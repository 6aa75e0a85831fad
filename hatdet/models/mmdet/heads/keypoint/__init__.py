"""Heads that find corners, and heatmaps to learn them of."""
