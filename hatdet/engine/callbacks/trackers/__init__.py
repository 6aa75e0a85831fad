"""Experiment trackers that a run writes to, each an extra of its own."""
