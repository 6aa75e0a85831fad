"""Heads that learn how good each of their boxes is, one prior a position."""
