"""Detectors and their parts: layers, backbones, necks, heads, task modules, losses."""
