"""Callbacks with the names and options of hooks of MMEngine and MMDetection."""
