"""Leaf modules: they import nothing else of hatdet."""
