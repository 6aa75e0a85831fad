"""Operators on pairs of codes."""
