"""Operators on single codes."""
