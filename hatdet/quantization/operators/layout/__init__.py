"""Operators that move codes, and those between them."""
