"""Whole detectors: networks, losses and boxes."""
